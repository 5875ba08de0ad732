//! What a table of figures must say about where it was measured.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use crate::Result;
use crate::latency::Latencies;

/// How long the file is that syncs are measured with.
const FILE_BYTES: u64 = 64 << 20;

/// Cores, processor, kernel and file system of `folder`, one line each, as a Markdown list.
pub fn facts(folder: &Path) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|it| it.strip_prefix("model name")?.split_once(": ")).map(|it| it.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let disk = said(Command::new("df").args(["--output=source,fstype"]).arg(folder));
    format!(
        "- cores: {cores}, {}\n- kernel: {}\n- disk of the store: {}\n",
        model.unwrap_or("of unknown make"),
        kernel.trim(),
        disk.lines().last().unwrap_or("unknown").split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

/// The first line that a command prints, on either output; "unknown" when it cannot be run.
pub fn version(command: &mut Command) -> String {
    said(command).lines().next().unwrap_or("unknown").trim().to_owned()
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|it| [it.stdout, it.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}

/// The load averages and how busy others keep the machine, as the kernel says them.
pub fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// How long `fdatasync` takes after each write of `bytes` to a file in `folder`, one behind the other, for as long as
/// `length` and at least once.
///
/// The file has its length from the start, as a journal has it, so that no sync has to write a new length: at its end
/// the writes begin anew. Blocks the thread.
///
/// # Errors
/// The folder cannot be written to.
pub fn syncs(folder: &Path, bytes: usize, length: Duration) -> Result<Latencies> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.set_len(FILE_BYTES)?;
    file.sync_all()?;
    let (line, mut took) = (vec![b'x'; bytes], Latencies::default());
    let end = Instant::now() + length;
    loop {
        if file.stream_position()? + bytes as u64 > FILE_BYTES {
            file.rewind()?;
        }
        file.write_all(&line)?;
        let begun = Instant::now();
        file.sync_data()?;
        took.add(begun.elapsed());
        if Instant::now() >= end {
            return Ok(took);
        }
    }
}
