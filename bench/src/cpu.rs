//! Processor time, read from `/proc`: of processes, of what was waited for, of the whole machine.

use std::fs;

use crate::Result;

/// Microseconds in one tick of Linux' accounting, which has 100 of them a second.
const TICK_US: u64 = 10_000;

/// Processor time of a process and of its children, in microseconds, in steps of 10 ms.
///
/// # Errors
/// The process has ended.
pub fn of_tree(pid: u32) -> Result<u64> {
    let mut sum: u64 = stat(&format!("/proc/{pid}/stat"))?.iter().take(2).sum();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        sum += of_tree(child.parse()?)?;
    }
    Ok(sum)
}

/// Processor time of a process, of its children and of all that they have waited for, in microseconds. A child that ends
/// meanwhile is counted by whoever waits for it.
///
/// # Errors
/// The process has ended.
pub fn of_all(pid: u32) -> Result<u64> {
    let mut sum: u64 = stat(&format!("/proc/{pid}/stat"))?.iter().sum();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|it| it.parse().ok());
        sum += children.filter_map(|it| of_all(it).ok()).sum::<u64>();
    }
    Ok(sum)
}

/// Processor time of all children that this process has waited for, in microseconds.
///
/// # Errors
/// `/proc` is not there.
pub fn of_reaped() -> Result<u64> {
    Ok(stat("/proc/self/stat")?.iter().skip(2).sum())
}

/// utime, stime, cutime and cstime.
fn stat(file: &str) -> Result<Vec<u64>> {
    let text = fs::read_to_string(file)?;
    // The name of the program may hold blanks; what follows it does not.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.skip(11).take(4).filter_map(|it| it.parse::<u64>().ok()).map(|it| it * TICK_US).collect())
}

/// What the whole machine has done since it started, in microseconds over all cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// Time in programs and in the kernel on their behalf.
    pub busy: u64,
    /// Time that the host gave to others.
    pub steal: u64,
}

impl Machine {
    /// Reads it.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn now() -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?)
    }

    fn parse(text: &str) -> Result<Self> {
        let line = text.lines().next().unwrap_or_default();
        let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
        let [user, nice, system, _, _, _, _, steal, ..] = fields[..] else {
            return Err(format!("/proc/stat begins with {line:?}").into());
        };
        Ok(Self { busy: (user + nice + system) * TICK_US, steal: steal * TICK_US })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_counts_programs_and_what_was_stolen() {
        let text = "cpu  1 2 4 100 100 7 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(Machine::parse(text).unwrap(), Machine { busy: 70_000, steal: 80_000 });
    }

    #[test]
    fn a_child_counts_for_its_parent_before_and_after_it_was_waited_for() {
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        // The shell's own child does the work.
        let mut child = std::process::Command::new("sh")
            .args(["-c", &format!("sh -c '{spin}; read x'; read y")])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        while of_tree(child.id()).unwrap() < TICK_US {
            std::thread::yield_now();
        }
        let before = of_reaped().unwrap();
        child.stdin.take();
        child.wait().unwrap();
        assert!(of_reaped().unwrap() >= before + TICK_US);
    }
}
