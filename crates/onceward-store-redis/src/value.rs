//! What is stored under a record's key: one line of what the server stamps, then the bytes of core's own encoding.
//!
//! The bytes are what [`encode`] makes of the record as its caller put it, with times of zero; they carry a format
//! version and a checksum. The line stands before them because a script must read it, and overrides what they say of
//! it. `scripts/line.lua` describes it.

use std::fmt::Write as _;
use std::str::{FromStr, SplitAsciiWhitespace};

use bytes::Bytes;
use onceward_core::record::encode::{decode, encode};
use onceward_core::store::{Put, Stamps};
use onceward_core::{Error, ErrorKind, Fence, Owner, Record, RecordId, Result, Revision, State, Timestamp};

/// The format of the line.
const FORMAT: &str = "1";
/// No line is longer.
const HEAD_BYTES_MAX: usize = 320;
/// Scripts count in doubles. What is longer than this is for ever: 71,000 years.
const FOR_EVER_MS: u128 = 1 << 51;

/// The record of `id` as it is stored.
///
/// # Errors
/// `Corrupt`: the line or the bytes cannot be read, or do not belong together.
pub(crate) fn read(id: RecordId, stored: &Bytes) -> Result<Record> {
    let ((stamps, state), rest) = split(stored).ok_or_else(|| corrupt("read the line of a stored record"))?;
    let record = decode(id, &rest)?;
    if letter(&record.state) != state {
        return Err(corrupt("read a stored record: its line is of another state"));
    }
    Ok(stamps.on(id, &Put::keep(&record, Timestamp::MAX)))
}

/// The record that was kept when the server answered with this line.
///
/// # Errors
/// `Uncertain`: it was kept, and what was stamped on it cannot be read.
pub(crate) fn kept(id: RecordId, put: &Put, line: &[u8]) -> Result<Record> {
    let unread = || Error::new(ErrorKind::Uncertain, "read what the server stamped");
    let (stamps, _) = line.strip_suffix(b"\n").and_then(parse).ok_or_else(unread)?;
    Ok(stamps.on(id, put))
}

/// The bytes that stand behind the line for this put.
pub(crate) fn body(id: RecordId, put: &Put) -> Vec<u8> {
    encode(&put.stamp(id, None, Timestamp::ZERO))
}

/// The whole stored form of `record`.
pub(crate) fn write(record: &Record) -> Vec<u8> {
    let mut line = String::with_capacity(HEAD_BYTES_MAX);
    line.push_str(FORMAT);
    let mut word = |it: &dyn std::fmt::Display| write!(line, " {it}").expect("a string can be written to");
    word(&record.revision);
    word(&record.fence);
    word(&hex(record.owner.as_bytes()));
    word(&record.attempt);
    for time in [
        record.created,
        record.run_until,
        record.updated,
        record.lease_until,
        record.answer_until,
        record.gone_until,
    ] {
        word(&time_text(time));
    }
    word(&record.wake_at.map_or_else(|| "n".to_owned(), time_text));
    word(&letter(&record.state));
    line.push('\n');
    let mut stored = line.into_bytes();
    stored.extend_from_slice(&encode(record));
    stored
}

/// The letter of a state in the line.
pub(crate) fn letter(state: &State) -> char {
    match state {
        State::Running => 'r',
        State::Abandoned { .. } => 'a',
        State::Released => 'f',
        State::Done(_) => 'd',
        State::Tombstone => 't',
    }
}

/// How a script is told a duration.
pub(crate) fn pause(pause: std::time::Duration) -> String {
    let millis = pause.as_millis();
    if millis < FOR_EVER_MS { millis.to_string() } else { "-".to_owned() }
}

/// How a script is told a time.
pub(crate) fn time_text(time: Timestamp) -> String {
    if time == Timestamp::MAX { "-".to_owned() } else { time.as_millis().to_string() }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string can be written to");
        text
    })
}

fn corrupt(doing: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, doing)
}

fn split(stored: &Bytes) -> Option<((Stamps, char), Bytes)> {
    let end = stored.iter().take(HEAD_BYTES_MAX).position(|it| *it == b'\n')?;
    Some((parse(&stored[..end])?, stored.slice(end + 1..)))
}

/// What the line says: what the server stamped, and the letter of the state.
fn parse(line: &[u8]) -> Option<(Stamps, char)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    if words.next()? != FORMAT {
        return None;
    }
    let revision = Revision(number(&mut words)?);
    let fence = Fence(number(&mut words)?);
    let owner = Owner::parse(words.next()?)?;
    let attempt = number(&mut words)?;
    let mut time = || time(words.next()?);
    let (created, run_until, updated, lease_until) = (time()?, time()?, time()?, time()?);
    let (answer_until, gone_until) = (time()?, time()?);
    let wake_at = match words.next()? {
        "n" => None,
        text => Some(self::time(text)?),
    };
    let state = words.next()?.chars().next()?;
    if words.next().is_some() {
        return None;
    }
    let stamps = Stamps {
        revision,
        fence,
        owner,
        attempt,
        created,
        run_until,
        updated,
        lease_until,
        answer_until,
        gone_until,
        wake_at,
    };
    Some((stamps, state))
}

fn number<T: FromStr>(words: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn time(text: &str) -> Option<Timestamp> {
    if text == "-" { Some(Timestamp::MAX) } else { text.parse().ok().map(Timestamp::from_millis) }
}

#[cfg(test)]
mod tests;
