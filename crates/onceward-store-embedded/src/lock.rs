//! The lock of a directory, and who has it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::directory::{OpenError, refused};

const LOCK_POLL: Duration = Duration::from_millis(25);

/// Our lock is taken before the engine looks at anything; its own lock gives up after 300 ms.
pub(crate) fn lock(root: &Path, wait: Duration) -> Result<File, OpenError> {
    let path = root.join("LOCK");
    let for_writing = || File::options().create(true).truncate(false).write(true).open(&path);
    drop(for_writing().map_err(refused("open", &path))?);
    // Held for reading only: a store that is out of order keeps no file open for writing, so that its file
    // system can be mounted anew, checked or remounted beneath it.
    let mut file = File::open(&path).map_err(refused("open", &path))?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(fs::TryLockError::WouldBlock) if waited < wait => {
                let pause = LOCK_POLL.min(wait - waited);
                std::thread::sleep(pause);
                waited += pause;
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: root.to_owned(), holder: holder(&mut file), waited });
            }
            Err(fs::TryLockError::Error(source)) => return Err(refused("lock", &path)(source)),
        }
    }
    // The process id only serves messages; a disk too full for it shows soon enough.
    let _ =
        for_writing().and_then(|mut it| it.set_len(0).and_then(|()| writeln!(it, "{}", std::process::id())));
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(it)) if it == std::process::id() => "this very process".to_owned(),
        (Ok(_), Ok(it)) => format!("process {it}"),
        _ => "another process".to_owned(),
    }
}
