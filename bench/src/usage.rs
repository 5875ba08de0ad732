//! What a process holds, read from `/proc`.

use std::fs;

use crate::Result;

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub rss: u64,
    /// Open file descriptors, sockets included.
    pub descriptors: usize,
    /// Threads.
    pub threads: u64,
    /// Processor time used so far, in clock ticks (100 a second on Linux).
    pub ticks: u64,
}

impl Usage {
    /// Reads what the process holds now.
    ///
    /// # Errors
    /// The process has ended, or belongs to somebody else.
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|it| it.strip_prefix(name));
            line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok())
                .ok_or_else(|| format!("/proc/{pid}/status has no {name}"))
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name of the program may hold blanks; what follows it does not.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = fields.iter().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        Ok(Self {
            rss: field("VmRSS:")? * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: field("Threads:")?,
            ticks,
        })
    }
}

/// Bytes as MiB with one place.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_seen() {
        let before = Usage::of(std::process::id()).unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        let after = Usage::of(std::process::id()).unwrap();
        assert!(after.descriptors >= before.descriptors + files.len() - 10, "{before:?} {after:?}");
        assert!(after.rss > 1 << 20 && after.threads >= 1);
    }
}
