//! What can be seen while no gateway runs. Nothing is changed.

use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use onceward::{Clock as _, SystemClock};
use onceward_gateway::doctor::{Facts, Files, State, StoreFacts, check_files, look};
use onceward_gateway::settings::Settings;

/// Clock, disk, limits and files of this machine.
pub(super) fn machine(facts: &mut Facts) {
    facts.now = Some(SystemClock.wall());
    facts.disk = facts.store.directory.as_deref().and_then(|it| look::disk(it).ok());
    facts.process = look::process(false);
    let faults = check_files(&facts.settings).err().unwrap_or_default();
    facts.files = Some(Files { faults, certificate: None });
}

/// The store, from the outside.
pub(super) fn store(settings: &Settings) -> StoreFacts {
    let url = settings.store.as_str();
    let Some(directory) = onceward::directory(url) else {
        return StoreFacts { state: State::Memory, durable: Some(false), ..StoreFacts::default() };
    };
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    StoreFacts {
        state: state(&directory),
        durable: Some(!url.contains("durability=relaxed")),
        mode: fs::metadata(&directory).ok().map(|it| it.permissions().mode() & 0o777),
        left_abruptly: directory.join("IN-USE").exists(),
        directory: Some(directory),
        ..StoreFacts::default()
    }
}

fn state(directory: &Path) -> State {
    match fs::read_dir(directory).map(|mut it| it.next().is_none()) {
        Ok(true) => return State::New,
        Ok(false) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return State::New,
        Err(error) => return State::Refused { reason: error.to_string() },
    }
    let mut lock = match File::open(directory.join("LOCK")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return State::New,
        Err(error) => return State::Refused { reason: format!("its LOCK file: {error}") },
    };
    // Shared, and let go at once: a gateway that starts just now waits for it.
    match lock.try_lock_shared() {
        Ok(()) => State::Closed,
        Err(TryLockError::WouldBlock) => State::InUse { holder: holder(&mut lock) },
        Err(TryLockError::Error(error)) => State::Refused { reason: format!("its LOCK file: {error}") },
    }
}

/// Who has it, as far as its lock file and the system say.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let number = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    let Some(number) = number else { return "another process".to_owned() };
    match fs::read_to_string(format!("/proc/{number}/comm")) {
        Ok(name) => format!("process {number} ({})", name.trim()),
        Err(_) => format!("process {number}"),
    }
}
