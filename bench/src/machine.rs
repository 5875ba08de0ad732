//! What a table of figures must say about where it was measured.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use tokio::time::Instant;

use crate::Result;
use crate::latency::Latencies;

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

/// How long `fdatasync` takes after each of `count` writes of `bytes` to a file in `folder`, one behind the other.
///
/// The file has its length from the start, as a journal has it, so that no sync has to write a new length.
/// Blocks the thread.
///
/// # Errors
/// The folder cannot be written to.
pub fn syncs(folder: &Path, bytes: usize, count: u32) -> Result<Latencies> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.set_len(64 << 20)?;
    file.sync_all()?;
    let (line, mut took) = (vec![b'x'; bytes], Latencies::default());
    for _ in 0..count {
        file.write_all(&line)?;
        let begun = Instant::now();
        file.sync_data()?;
        took.add(begun.elapsed());
    }
    Ok(took)
}
