//! The log on stdout: requests leave their lines in memory, and a thread of its own writes them.
//!
//! A line is written at most [`GATHERED_FOR`] after it was said, many lines at once. When whoever reads stdout does
//! not keep up, lines are lost and counted rather than requests held up. A kill of the process loses what was not
//! written yet; every other end writes it.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onceward_gateway::settings::Log;
use tracing_subscriber::fmt::MakeWriter;

/// How long lines wait for others to be written with.
const GATHERED_FOR: Duration = Duration::from_millis(5);
/// Lines of so many bytes together wait no longer.
const GATHERED_BYTES: usize = 64 << 10;
/// More bytes than these do not wait: the line that comes next is lost.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// How long the end of the process waits for a reader that does not read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts the log. What is said until the guard is dropped is written, as long as somebody reads it.
///
/// # Errors
/// There is no thread to be had.
pub(crate) fn start(log: Log) -> io::Result<Guard> {
    let lines = Lines::default();
    let writer = lines.clone();
    std::thread::Builder::new().name("log".into()).spawn(move || writer.write_on(&mut io::stdout()))?;
    let guard = Guard(lines.clone());
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(lines);
    match log {
        Log::Json => {
            subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
        Log::Human => subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stdout())).init(),
    }
    Ok(guard)
}

/// Writes the last lines when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Lines);

impl Drop for Guard {
    fn drop(&mut self) {
        let Lines(shared) = &self.0;
        let mut waiting = self.0.lock();
        waiting.is_over = true;
        shared.changed.notify_all();
        drop(shared.changed.wait_timeout_while(waiting, LAST_WORDS, |it| !it.is_written));
    }
}

/// The lines that are not written yet.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// The first line came, so many that they are worth a write, or the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
    is_over: bool,
    is_written: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut waiting = self.lock();
        let before = waiting.bytes.len();
        if before + line.len() > WAITING_BYTES_MAX {
            waiting.lost += 1;
            return;
        }
        waiting.bytes.extend_from_slice(line);
        // A wake for each line would cost more than writing it.
        let is_due = before == 0 || (before < GATHERED_BYTES && waiting.bytes.len() >= GATHERED_BYTES);
        drop(waiting);
        if is_due {
            self.0.changed.notify_all();
        }
    }

    /// Writes lines until the end.
    fn write_on(&self, out: &mut impl Write) {
        let mut bytes = Vec::new();
        while let Some(lost) = self.take(&mut bytes) {
            // A line that nobody can read any more is lost.
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
            if lost > 0 {
                tracing::warn!(lines = lost, "log lines are lost: stdout is read too slowly");
            }
        }
    }

    /// Waits for lines and puts them in the place of `bytes`; tells how many were lost before. `None`: the end.
    fn take(&self, bytes: &mut Vec<u8>) -> Option<u64> {
        let changed = &self.0.changed;
        let is_quiet = |it: &mut Waiting| it.bytes.is_empty() && !it.is_over;
        let waiting = changed.wait_while(self.lock(), is_quiet).unwrap_or_else(PoisonError::into_inner);
        let is_small = |it: &mut Waiting| it.bytes.len() < GATHERED_BYTES && !it.is_over;
        let gathered = changed.wait_timeout_while(waiting, GATHERED_FOR, is_small);
        let mut waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        if waiting.bytes.is_empty() && waiting.lost == 0 {
            waiting.is_written = true;
            changed.notify_all();
            return None;
        }
        bytes.clear();
        std::mem::swap(bytes, &mut waiting.bytes);
        Some(std::mem::take(&mut waiting.lost))
    }
}

/// One line, as the subscriber makes it: it is added whole.
#[derive(Debug)]
struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes what is written when it is let.
    struct Slow {
        taken: mpsc::Sender<Vec<u8>>,
        may: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.taken.send(bytes.to_vec()).map_err(io::Error::other)?;
            let _ = self.may.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_speaks_never_waits_and_what_is_too_much_is_lost_and_counted() {
        let lines = Lines::default();
        let ((taken, written), (go, may)) = (mpsc::channel(), mpsc::channel());
        let writer = lines.clone();
        let writing = std::thread::spawn(move || writer.write_on(&mut Slow { taken, may }));
        lines.add(b"first\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        // The writer hangs in its write from here on.
        let line = vec![b'x'; 1 << 20];
        for _ in 0..6 {
            lines.add(&line);
        }
        let (bytes, lost) = {
            let waiting = lines.lock();
            (waiting.bytes.len(), waiting.lost)
        };
        assert_eq!((bytes, lost), (4 << 20, 2));
        drop(go);
        assert_eq!(written.recv().unwrap().len(), 4 << 20);
        drop(Guard(lines.clone()));
        writing.join().unwrap();
        assert_eq!(lines.lock().lost, 0);
    }

    #[test]
    fn the_end_waits_for_the_last_lines_and_not_for_ever() {
        let lines = Lines::default();
        let ((taken, written), (go, may)) = (mpsc::channel(), mpsc::channel());
        let writer = lines.clone();
        let writing = std::thread::spawn(move || writer.write_on(&mut Slow { taken, may }));
        lines.add(b"last\n");
        // Nobody lets it be written, and still this comes back.
        drop(Guard(lines));
        assert_eq!(written.recv().unwrap(), b"last\n");
        drop(go);
        writing.join().unwrap();
    }
}
