//! Directories with stored answers, and a gateway over each of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::args::Common;
use onceward_bench::cell::{Cell, Sample};
use onceward_bench::gateway::{Gateway, quiet};
use onceward_bench::load::{Requests, Strength};
use onceward_bench::measure::{Target, measure};
use onceward_bench::nginx::{Nginx, Role};
use onceward_pace::fill::fill;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long answers are kept that are not meant to expire.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How much is asked of a gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) length: Duration,
}

/// One directory, and what was measured over it.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) answers: u64,
    /// How long it took to fill.
    pub(crate) filled: Duration,
    /// Bytes on the disk after filling and opening.
    pub(crate) disk: u64,
    /// Seconds from the start of the process until it was ready, after an orderly end.
    pub(crate) opens: Vec<f64>,
    /// The same after a kill.
    pub(crate) opens_killed: Vec<f64>,
    /// The most memory that was resident after a round, in bytes.
    pub(crate) memory: u64,
    pub(crate) cell: Cell,
    directory: PathBuf,
    gateway: Option<Gateway>,
}

/// All of them, and the API behind.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(crate) rooms: Vec<Room>,
    common: Common,
    upstream: Nginx,
    folder: TempDir,
    settings: String,
    /// What the settings say of the access log.
    pub(crate) access_log: &'static str,
    run: u64,
}

impl Hall {
    /// Starts the API and makes the folder for the directories.
    pub(crate) async fn open(common: &Common) -> Result<Self> {
        let folder = match &common.folder {
            Some(parent) => TempDir::new_in(parent)?,
            None => TempDir::new()?,
        };
        let (settings, access_log) = quiet(common)?;
        let upstream = Nginx::start(Role::Answering).await?;
        Ok(Self { rooms: Vec::new(), common: common.clone(), upstream, folder, settings, access_log, run: 0 })
    }

    /// Where the directories are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Fills one more directory.
    pub(crate) async fn add(&mut self, answers: u64) -> Result<()> {
        let directory = self.folder.path().join(format!("records-{}", self.rooms.len()));
        let begun = Instant::now();
        fill(&directory, answers, DAY).await?;
        let filled = begun.elapsed();
        eprintln!("{answers} answers stored in {:.1} s", filled.as_secs_f64());
        self.rooms.push(Room {
            answers,
            filled,
            disk: 0,
            opens: Vec::new(),
            opens_killed: Vec::new(),
            memory: 0,
            cell: Cell::default(),
            directory,
            gateway: None,
        });
        Ok(())
    }

    /// Starts each gateway some times and ends it in order.
    pub(crate) async fn time_openings(&mut self, times: u32) -> Result<()> {
        for number in 0..self.rooms.len() {
            for _ in 0..times {
                let (gateway, took) = self.gateway_over(&self.rooms[number].directory).await?;
                self.rooms[number].opens.push(took.as_secs_f64());
                gateway.stop().await?;
            }
            self.rooms[number].disk = size(&self.rooms[number].directory)?;
        }
        Ok(())
    }

    /// Kills each gateway that runs, starts it again, and so on. None runs in the end.
    pub(crate) async fn time_openings_after_a_kill(&mut self, times: u32) -> Result<()> {
        for number in 0..self.rooms.len() {
            for _ in 0..times {
                // Dropped, it is killed.
                drop(self.rooms[number].gateway.take());
                let (gateway, took) = self.gateway_over(&self.rooms[number].directory).await?;
                self.rooms[number].opens_killed.push(took.as_secs_f64());
                self.rooms[number].gateway = Some(gateway);
            }
            drop(self.rooms[number].gateway.take());
        }
        Ok(())
    }

    /// Starts a gateway over each directory.
    pub(crate) async fn start(&mut self) -> Result<()> {
        for number in 0..self.rooms.len() {
            let (gateway, _) = self.gateway_over(&self.rooms[number].directory).await?;
            self.rooms[number].gateway = Some(gateway);
        }
        Ok(())
    }

    /// Starts a gateway, and says how long it took until it was ready.
    pub(crate) async fn gateway_over(&self, directory: &Path) -> Result<(Gateway, Duration)> {
        let store = format!("embedded:{}", directory.display());
        let upstream = [format!("http://{}", self.upstream.address)];
        let begun = Instant::now();
        let gateway = Gateway::start_on(&store, &self.common, &self.settings, &upstream).await?;
        Ok((gateway, begun.elapsed()))
    }

    /// Measures each gateway once; odd rounds go the other way.
    pub(crate) async fn round(&mut self, round: u32, load: Load) -> Result<()> {
        let mut order: Vec<usize> = (0..self.rooms.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for number in order {
            let Some(gateway) = self.rooms[number].gateway.take() else {
                return Err("no gateway was started".into());
            };
            let measured = self.first_runs(&gateway, load).await?;
            let room = &mut self.rooms[number];
            match measured {
                Ok(sample) => room.cell.samples.push(sample),
                Err(why) => room.cell.failed = Some(why),
            }
            room.memory = room.memory.max(gateway.usage()?.rss);
            room.gateway = Some(gateway);
        }
        Ok(())
    }

    /// Sends operations with new keys. The inner error says why there is no figure.
    pub(crate) async fn first_runs(
        &mut self,
        gateway: &Gateway,
        load: Load,
    ) -> Result<std::result::Result<Sample, String>> {
        self.run += 1;
        let requests = Requests::Unique(format!("r{:05}-", self.run));
        let strength = Strength { threads: 1, connections: load.connections, length: load.length };
        measure(Target::Gateway(gateway, "first_run"), self.upstream.pid(), requests, strength).await
    }
}

/// How many bytes the files below a directory take on the disk.
fn size(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let (path, metadata) =
            (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(fs::DirEntry::metadata));
        match (path, metadata) {
            (Ok(path), Ok(Ok(it))) if it.is_dir() => sum += size(&path)?,
            (Ok(_), Ok(Ok(it))) => sum += it.blocks() * 512,
            // Gone since it was listed.
            _ => {}
        }
    }
    Ok(sum)
}
