//! What can be seen while no gateway runs. No record is changed.

use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use onceward::embedded::{Durability, EmbeddedSettings, OpenError, Survey, survey};
use onceward::moving::{self, Place};
use onceward::store::Filter;
use onceward::{Clock as _, LateStore, RecordId, Status, Store, SystemClock};
use onceward_gateway::doctor::{Counts, Facts, State, StoreFacts, check_files, look};
use onceward_gateway::settings::{Settings, reasons};
use tokio::time::Instant;

/// How long a store may take until it listens for hints.
const HINT_WAIT: Duration = Duration::from_secs(2);

/// How long records of a server are counted, and how many are asked for at once.
const COUNT_WAIT: Duration = Duration::from_secs(3);
const COUNT_PAGE: usize = 1000;

/// Clock, disk, limits and files of this machine.
pub(super) fn machine(facts: &mut Facts) {
    facts.now = Some(SystemClock.wall());
    facts.disk = facts.store.directory.as_deref().and_then(|it| look::disk(it).ok());
    facts.process = look::process(false);
    facts.files = Some(check_files(&facts.settings));
}

/// The store, as it looks without opening it. A store of another user counts as not looked at: opening it leaves
/// files that belong to whoever does it, and its own user could not use them.
pub(super) fn outside(settings: &Settings) -> StoreFacts {
    let url = settings.store.as_str();
    let Ok(embedded) = EmbeddedSettings::from_url(url) else {
        return if url == "memory:" {
            StoreFacts { state: State::Memory, durable: Some(false), ..StoreFacts::default() }
        } else {
            StoreFacts::default()
        };
    };
    let directory = std::path::absolute(&embedded.path).unwrap_or(embedded.path);
    let meta = fs::metadata(&directory).ok();
    let me = rustix::process::geteuid().as_raw();
    let foreign = meta.as_ref().map(MetadataExt::uid).filter(|it| *it != me);
    StoreFacts {
        state: match (state(&directory), foreign) {
            (State::Closed, Some(owner)) => State::NotLooked {
                reason: format!("it belongs to the user {owner}"),
                remedy: format!("ask as that user: sudo -u '#{owner}' onceward doctor …"),
            },
            (state, _) => state,
        },
        durable: Some(embedded.durability == Durability::Durable),
        mode: meta.as_ref().map(|it| it.permissions().mode() & 0o777),
        directory: Some(directory),
        ..StoreFacts::default()
    }
}

/// The store: from outside, and from inside where nobody has it.
pub(super) async fn store(settings: &Settings) -> StoreFacts {
    let facts = outside(settings);
    let embedded = match (&facts.state, EmbeddedSettings::from_url(settings.store.as_str())) {
        (State::Closed, Ok(embedded)) => embedded,
        (State::Unknown, Err(_)) => return shared(settings).await,
        _ => return facts,
    };
    let embedded = EmbeddedSettings { lock_wait: Duration::ZERO, ..embedded };
    let looking = tokio::task::spawn_blocking(move || survey(&embedded, Arc::new(SystemClock)));
    match looking.await {
        Ok(Ok(survey)) => from_survey(facts, &survey),
        Ok(Err(OpenError::Locked { holder, .. })) => StoreFacts { state: State::InUse { holder }, ..facts },
        Ok(Err(error)) => StoreFacts { state: State::Refused { reason: reasons(&error) }, ..facts },
        Err(error) => StoreFacts { state: State::Refused { reason: error.to_string() }, ..facts },
    }
}

/// A store that several gateways share: whether this machine can use it, too.
async fn shared(settings: &Settings) -> StoreFacts {
    let store = match onceward::open_to_look(settings.store.as_str()).await {
        Ok(store) => store,
        Err(error) => {
            return StoreFacts { state: State::Refused { reason: reasons(&error) }, ..StoreFacts::default() };
        }
    };
    let state = match store.check().await {
        Ok(()) => State::Serving,
        Err(error) => State::Down { reason: reasons(&error) },
    };
    let durable = Some(store.traits().durable);
    if state != State::Serving {
        return StoreFacts { state, durable, ..StoreFacts::default() };
    }
    let (hints, place, counts) =
        (hears_hints(&*store).await, place(&*store).await, counts(&*store).await.ok());
    StoreFacts { state, durable, hints, place, counts, ..StoreFacts::default() }
}

/// Where the records are, as far as the store says.
async fn place(store: &dyn Store) -> Place {
    let note = store.load(RecordId::reserved(moving::NOTE)).await;
    note.map_or(Place::Here, |it| moving::place(it.record.as_deref()))
}

/// What a store holds that has to be asked for each page. First what waits for an operator, then all the rest; each takes
/// no longer than [`COUNT_WAIT`].
async fn counts(store: &dyn Store) -> onceward::Result<Counts> {
    let mut counts = Counts::default();
    for status in [Some(Status::Unresolved), None] {
        let (filter, mut cursor) = (Filter { status, ..Filter::default() }, None);
        let until = Instant::now() + COUNT_WAIT;
        loop {
            let page = store.list(&filter, cursor, COUNT_PAGE).await?;
            for it in &page.records {
                match (status, it.status_at(page.now)) {
                    (Some(_), _) => {
                        counts.unresolved += 1;
                        let age = it.updated.until(page.now);
                        if counts.oldest_unresolved.as_ref().is_none_or(|oldest| oldest.1 < age) {
                            counts.oldest_unresolved = Some((it.id.prefix(), age));
                        }
                    }
                    (None, Status::Done) => counts.answers += 1,
                    (None, Status::Gone) => counts.tombstones += 1,
                    (None, Status::Running | Status::Unresolved | Status::Released | Status::Vacant) => {}
                }
            }
            if status.is_none() {
                counts.unreadable += page.unreadable.len() as u64;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            if Instant::now() > until {
                counts.more = true;
                break;
            }
        }
    }
    Ok(counts)
}

/// Whether a store that has something to listen to is heard.
async fn hears_hints(store: &dyn Store) -> Option<bool> {
    if store.traits().name != "redis" {
        return None;
    }
    // Nobody has this record. The first hint says that the store listens.
    let mut hints = store.hints(RecordId::from_bytes([0; 32]))?;
    Some(tokio::time::timeout(HINT_WAIT, hints.next()).await.is_ok_and(|it| it.is_some()))
}

/// The store that this very process has, from outside and from inside. Whether it answers is found out elsewhere.
pub(super) async fn inside(settings: &Settings, store: Option<Arc<LateStore>>) -> StoreFacts {
    let facts = StoreFacts { state: State::Unknown, ..outside(settings) };
    let durable = store.as_ref().filter(|it| it.is_open()).map(|it| it.traits().durable);
    let facts = StoreFacts { durable: facts.durable.or(durable), ..facts };
    let Some(embedded) = store.as_ref().and_then(|it| it.embedded()) else {
        let shared = store.filter(|it| it.is_open() && it.traits().shared);
        let Some(shared) = shared else { return facts };
        return StoreFacts { counts: counts(&*shared).await.ok(), ..facts };
    };
    match embedded.survey().await {
        Ok(survey) => StoreFacts { state: State::Unknown, ..from_survey(facts, &survey) },
        Err(_) => facts,
    }
}

/// What a survey says, put on what is known already.
fn from_survey(facts: StoreFacts, survey: &Survey) -> StoreFacts {
    let damaged = survey.damaged_files.len() as u64;
    let first = survey.damaged_files.first().map(|(file, what)| format!("{}: {what}", file.display()));
    let counts = survey.census.as_ref().map(|it| Counts {
        answers: it.count(Status::Done),
        unresolved: it.count(Status::Unresolved),
        tombstones: it.count(Status::Gone),
        unreadable: it.unreadable + it.damaged_places as u64 + damaged,
        oldest_unresolved: it.oldest_unresolved.map(|(record, age)| (record.prefix(), age)),
        more: !it.complete,
    });
    StoreFacts {
        state: match survey.not_opened.clone() {
            Some(reason) => State::Refused { reason: first.unwrap_or(reason) },
            None => State::Closed,
        },
        left_abruptly: survey.left_abruptly,
        ahead: Some(survey.time_ahead),
        counts,
        place: survey.census.as_ref().map_or(Place::Here, |it| it.place.clone()),
        ..facts
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
