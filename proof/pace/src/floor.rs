//! What the embedded store cannot be faster than: the same records, in groups, without looking at anything.
//!
//! Callers hand their rows to one thread and wait, as they do with the store. The thread takes all that wait, up to
//! the store's own bound, writes them, syncs once, and tells the callers.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use onceward_bench::Result;
use onceward_core::record::encode::encode;
use onceward_core::store::Agenda;
use onceward_core::{Clock as _, Record, SystemClock};
use onceward_store_embedded::Durability;
use tokio::sync::oneshot;

/// How many calls one sync covers, as in the store.
const GROUP: usize = 512;
/// How long the bare file is before it begins again at its start, as a segment of the store's log.
const FILE_BYTES: u64 = 64 << 20;
/// How long a relaxed write stays unsynced.
const RELAXED_SYNC: Duration = Duration::from_secs(1);

/// What one call writes.
#[derive(Debug, Default)]
pub struct Rows {
    record: Vec<u8>,
    id: Vec<u8>,
    added: Vec<Vec<u8>>,
    removed: Vec<Vec<u8>>,
}

impl Rows {
    /// The rows that the store writes when `after` takes the place of `before`.
    pub fn of(before: Option<&Record>, after: &Record) -> Self {
        let [old, new] = [before, Some(after)].map(|it| it.map(agenda).unwrap_or_default());
        Self {
            record: encode(after),
            id: after.id.as_bytes().to_vec(),
            removed: old.iter().filter(|it| !new.contains(it)).cloned().collect(),
            added: new.iter().filter(|it| !old.contains(it)).cloned().collect(),
        }
    }
}

/// As the store lays out its agenda: what, when, which.
fn agenda(record: &Record) -> Vec<Vec<u8>> {
    let row = |(what, when): (Agenda, onceward_core::Timestamp)| {
        let what = match what {
            Agenda::Lease => 1,
            Agenda::Wake => 2,
            Agenda::Expiry => 3,
        };
        [&[what][..], &when.as_millis().to_be_bytes(), record.id.as_bytes()].concat()
    };
    record.agenda().map(row).collect()
}

/// Where the rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A batch of fjall, in tables like the store's.
    Fjall,
    /// Records one behind the other into a file whose blocks are written already, as the store's log does. The
    /// agenda is not written: no promise to a caller hangs on it.
    File,
}

/// The thread that writes. It ends with this.
#[derive(Debug)]
pub struct Floor {
    calls: Sender<Call>,
}

#[derive(Debug)]
struct Call {
    rows: Rows,
    told: oneshot::Sender<()>,
}

impl Floor {
    /// Makes the files in an empty directory and starts the thread.
    ///
    /// # Errors
    /// The files cannot be made.
    pub fn start(kind: Kind, directory: &Path, durability: Durability) -> Result<Self> {
        let sink = match kind {
            Kind::Fjall => Sink::fjall(directory)?,
            Kind::File => Sink::file(directory)?,
        };
        let (calls, waiting) = mpsc::channel();
        std::thread::Builder::new()
            .name("floor".to_owned())
            .spawn(move || serve(sink, &waiting, durability))?;
        Ok(Self { calls })
    }

    /// Writes the rows and returns once they are as safe as they get.
    ///
    /// # Errors
    /// The thread could not write, and has ended.
    pub async fn write(&self, rows: Rows) -> Result<()> {
        let (told, heard) = oneshot::channel();
        self.calls.send(Call { rows, told }).map_err(|_| "the floor gave way")?;
        Ok(heard.await.map_err(|_| "the floor gave way")?)
    }
}

/// Ends when the floor is dropped. When a write fails it ends too, and no call is answered any more.
fn serve(mut sink: Sink, calls: &Receiver<Call>, durability: Durability) {
    let mut synced = SystemClock.boot();
    while let Ok(first) = calls.recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = calls.try_recv()
        {
            group.push(next);
        }
        let late = SystemClock.boot().saturating_sub(synced) >= RELAXED_SYNC;
        let sync = durability == Durability::Durable || late;
        if late {
            synced = SystemClock.boot();
        }
        if sink.write(group.iter().map(|it| &it.rows), sync).is_err() {
            return;
        }
        for call in group {
            // A caller that left is not told.
            let _ = call.told.send(());
        }
    }
}

/// Where a group goes.
enum Sink {
    File { file: File, written: u64 },
    Fjall { database: Database, records: Keyspace, agenda: Keyspace },
}

impl Sink {
    fn file(directory: &Path) -> Result<Self> {
        Ok(Self::File { file: filled(directory)?, written: 0 })
    }

    fn fjall(directory: &Path) -> Result<Self> {
        let database = Database::builder(directory)
            .journal_compression(CompressionType::None)
            .cache_size(8 << 20)
            .worker_threads(2)
            .max_journaling_size(128 << 20)
            .open()?;
        let table = |name, bytes| {
            database.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(bytes))
        };
        let (records, agenda) = (table("records", 8 << 20)?, table("agenda", 4 << 20)?);
        Ok(Self::Fjall { database, records, agenda })
    }

    fn write<'a>(&mut self, group: impl Iterator<Item = &'a Rows>, sync: bool) -> Result<()> {
        match self {
            Self::File { file, written } => {
                let mut bytes = Vec::new();
                for rows in group {
                    bytes.extend_from_slice(&rows.id);
                    bytes.extend_from_slice(&rows.record);
                }
                if *written + bytes.len() as u64 > FILE_BYTES {
                    file.rewind()?;
                    *written = 0;
                }
                file.write_all(&bytes)?;
                *written += bytes.len() as u64;
                if sync {
                    file.sync_data()?;
                }
            }
            Self::Fjall { database, records, agenda } => {
                let mut batch = OwnedWriteBatch::with_capacity(database.clone(), 2 * GROUP);
                for rows in group {
                    rows.removed.iter().for_each(|it| batch.remove(agenda, &it[..]));
                    rows.added.iter().for_each(|it| batch.insert(agenda, &it[..], b""));
                    batch.insert(records, &rows.id[..], &rows.record[..]);
                }
                let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
                batch.durability(Some(mode)).commit()?;
            }
        }
        Ok(())
    }
}

/// A new file of its full length with every block written, so that a sync has no metadata to write.
fn filled(directory: &Path) -> Result<File> {
    std::fs::create_dir_all(directory)?;
    let mut file = File::create(directory.join("floor"))?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use onceward_core::Timestamp;

    use super::*;
    use crate::made_up;

    #[tokio::test]
    async fn both_floors_take_a_claim_and_its_completion() {
        let (claim, id) = (made_up::claim("k".to_owned()), made_up::id());
        let running = claim.stamp(id, None, Timestamp::from_millis(5));
        let done = made_up::completion(claim, made_up::answer()).stamp(
            id,
            Some(&running),
            Timestamp::from_millis(6),
        );
        for kind in [Kind::File, Kind::Fjall] {
            let folder = tempfile::tempdir().unwrap();
            let floor = Floor::start(kind, folder.path(), Durability::Durable).unwrap();
            floor.write(Rows::of(None, &running)).await.unwrap();
            floor.write(Rows::of(Some(&running), &done)).await.unwrap();
        }
    }

    #[test]
    fn a_completion_takes_the_lease_off_the_agenda_and_puts_the_expiry_on_it() {
        let (claim, id) = (made_up::claim("k".to_owned()), made_up::id());
        let running = claim.stamp(id, None, Timestamp::from_millis(5));
        let done = made_up::completion(claim, made_up::answer()).stamp(
            id,
            Some(&running),
            Timestamp::from_millis(6),
        );
        let rows = Rows::of(Some(&running), &done);
        assert_eq!([rows.removed.len(), rows.added.len(), rows.added[0].len()], [1, 1, 41]);
        assert_eq!((rows.removed[0][0], rows.added[0][0]), (1, 3));
    }
}
