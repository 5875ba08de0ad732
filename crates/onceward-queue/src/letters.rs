//! What operators do with dead letters: look at them, send them again, drop them.

use std::time::Duration;

use onceward_core::store::{Cursor, Filter, Replace};
use onceward_core::transition::released;
use onceward_core::{
    Engine, Error, ErrorKind, Hasher, Operated, Record, RecordId, Result, State, Status, Verdict,
};

use crate::desk::parked;
use crate::letter::{KIND, Letter};
use crate::message::Message;
use crate::source::Source;
use crate::verdict::Reason;

/// The header of a message that was sent again from among the dead letters. It belongs to what the message is known by: under
/// its id alone it stays dead.
pub const REDRIVEN: &str = "onceward-redriven";

/// How long one call to the store may take.
const BUDGET: Duration = Duration::from_secs(5);

/// The dead letters of a store.
#[derive(Debug, Clone)]
pub struct Letters {
    engine: Engine,
}

/// What became of a letter that was to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// Its message was published, and the broker has confirmed it. The letter is gone.
    Published,
    /// There is no such letter. Nothing was done.
    NotFound,
    /// Nobody knows whether its effect happened, and it was not said that it did not. Nothing was done.
    Unresolved,
    /// Its id was first used for another payload: under this id it must never run. Nothing was done.
    OtherPayload,
}

impl Letters {
    /// The letters of the store of `engine`.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// One page of letters with their ids, of all topics or of one, and where the next page begins. What cannot be read is
    /// left out.
    ///
    /// # Errors
    /// The store could not be asked.
    pub async fn list(
        &self,
        topic: Option<&str>,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(RecordId, Letter)>, Option<Cursor>)> {
        let filter = Filter {
            kind: Some(KIND.to_owned()),
            path: topic.map(str::to_owned),
            status: Some(Status::Done),
            ..Filter::default()
        };
        let page = self.engine.list(&filter, cursor, limit).await?;
        let letters = page.records.iter().filter_map(|it| Some((it.id, letter(it)?.ok()?)));
        Ok((letters.collect(), page.next))
    }

    /// A letter.
    ///
    /// # Errors
    /// The store could not be asked, or the letter cannot be read.
    pub async fn get(&self, id: RecordId) -> Result<Option<Letter>> {
        let shown = self.engine.show(id).await?;
        let record = shown.record.filter(|it| it.status_at(shown.now) == Status::Done);
        record.as_deref().and_then(letter).transpose()
    }

    /// Forgets a letter at once. Its message stays what it is: dead. `false` when there is no such letter.
    ///
    /// # Errors
    /// `Uncertain`: it may be gone; look. Others: nothing was written.
    pub async fn forget(&self, id: RecordId) -> Result<bool> {
        loop {
            let shown = self.engine.show(id).await?;
            let record = shown.record.filter(|it| it.status_at(shown.now) == Status::Done);
            let Some(record) = record.filter(|it| it.listing.kind == KIND) else { return Ok(false) };
            // No answer that is replayed to anybody: whoever still knows it only knows that the message was parked.
            let put = released(&record, shown.now.after(BUDGET));
            match self.engine.store().replace(id, record.revision, &put).await? {
                Replace::Kept(_) => return Ok(true),
                Replace::Lost(..) => {}
                Replace::Late(_) => {
                    return Err(Error::new(ErrorKind::Unavailable, "forget a dead letter in time"));
                }
            }
        }
    }

    /// Publishes the message of a letter to its topic again, as it was, with the header [`REDRIVEN`]; then forgets the letter.
    /// Whoever consumes it runs it once, however often it is sent again. A letter that is unresolved is only sent when
    /// `did_not_happen` says that somebody looked, and that its effect did not happen.
    ///
    /// # Errors
    /// `Unavailable`, `Invalid`: it was not published, the letter stays. `Uncertain`: it may be; send it again.
    pub async fn redrive(&self, id: RecordId, source: &dyn Source, did_not_happen: bool) -> Result<Redriven> {
        let Some(letter) = self.get(id).await? else { return Ok(Redriven::NotFound) };
        match letter.reason {
            Reason::OtherPayload => return Ok(Redriven::OtherPayload),
            Reason::Unresolved if !did_not_happen => return Ok(Redriven::Unresolved),
            Reason::Unresolved => self.bury(&letter).await?,
            Reason::NoIdentity | Reason::Attempts | Reason::Handler => {}
        }
        let header = seal(&self.engine.hasher().await?, id);
        let mut message = letter.message;
        message.headers.retain(|it| !it.0.eq_ignore_ascii_case(REDRIVEN));
        message.headers.push((REDRIVEN.to_owned(), header.into()));
        source.publish(&message).await?;
        self.forget(id).await?;
        Ok(Redriven::Published)
    }

    /// Says in the record of an unresolved message that it is over, so that only what is sent again runs.
    async fn bury(&self, letter: &Letter) -> Result<()> {
        let Some(id) = letter.record.as_deref().and_then(RecordId::parse) else { return Ok(()) };
        loop {
            let Some(record) = self.engine.show(id).await?.record else { return Ok(()) };
            if !matches!(record.state, State::Running | State::Abandoned { .. }) {
                return Ok(());
            }
            let verdict = Verdict::Answer(parked(letter.reason));
            match self.engine.verdict(id, record.revision, &verdict, false).await? {
                Operated::Done(_) | Operated::NotFound | Operated::NothingToResolve | Operated::Carries => {
                    return Ok(());
                }
                Operated::Changed(_) => {}
                Operated::LeaseAlive(_) => {
                    return Err(Error::new(ErrorKind::Unavailable, "redrive a message that is worked on"));
                }
            }
        }
    }
}

fn letter(record: &Record) -> Option<Result<Letter>> {
    match &record.state {
        State::Done(answer) if record.listing.kind == KIND => Some(Letter::from_answer(answer)),
        State::Done(_) | State::Running | State::Abandoned { .. } | State::Released | State::Tombstone => {
            None
        }
    }
}

/// What the header of a message that is sent again says: which letter it was, under a seal that only this store's users can
/// make. Else a producer could have a message run again by a header.
fn seal(hasher: &Hasher, letter: RecordId) -> String {
    format!("{letter}.{}", hasher.principal("redriven", letter.to_string().as_bytes()))
}

/// Which letter a message was, if it was one and the seal is right.
pub(crate) fn was_letter(hasher: &Hasher, message: &Message) -> Option<RecordId> {
    let header = std::str::from_utf8(message.header(REDRIVEN).ok()??).ok()?;
    let letter = RecordId::parse(header.split_once('.')?.0)?;
    (seal(hasher, letter) == header).then_some(letter)
}
