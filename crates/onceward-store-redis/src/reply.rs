//! What scripts answer, as types.

use bytes::Bytes;
use onceward_core::{Error, RecordId, Result, Timestamp};
use redis::Value;

use crate::fault;

/// What `insert.lua` and `replace.lua` answer.
#[derive(Debug)]
pub(crate) enum Written {
    /// It was kept, under this line.
    Kept(Vec<u8>),
    /// It was not; this is there.
    Found(Timestamp, Option<Bytes>),
    /// It came too late.
    Late(Timestamp),
    /// What is there cannot be read.
    Broken,
}

/// Takes the parts of an answer from the front.
struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    fn of(value: Value) -> Result<Self> {
        match value {
            Value::Array(parts) => Ok(Self(parts.into_iter())),
            _ => Err(fault::misunderstood()),
        }
    }

    fn number(&mut self) -> Result<i64> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(number),
            _ => Err(fault::misunderstood()),
        }
    }

    fn time(&mut self) -> Result<Timestamp> {
        u64::try_from(self.number()?).map(Timestamp::from_millis).map_err(|_| fault::misunderstood())
    }

    /// Bytes, or nothing where a script says `nil`, which ends an answer.
    fn bytes(&mut self) -> Result<Option<Bytes>> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(Some(bytes.into())),
            Some(Value::Nil) | None => Ok(None),
            Some(_) => Err(fault::misunderstood()),
        }
    }

    fn needed(&mut self) -> Result<Bytes> {
        self.bytes()?.ok_or_else(fault::misunderstood)
    }

    fn list(&mut self) -> Result<Self> {
        self.0.next().map_or_else(|| Err(fault::misunderstood()), Self::of)
    }
}

pub(crate) fn written(value: Value) -> Result<Written> {
    let value = match value {
        Value::BulkString(line) => return Ok(Written::Kept(line)),
        other => other,
    };
    let mut parts = Parts::of(value)?;
    match parts.number()? {
        0 => Ok(Written::Found(parts.time()?, parts.bytes()?)),
        2 => Ok(Written::Late(parts.time()?)),
        3 => Ok(Written::Broken),
        _ => Err(fault::misunderstood()),
    }
}

/// What `load.lua` answers: the time, and what is there.
pub(crate) fn loaded(value: Value) -> Result<(Timestamp, Option<Bytes>)> {
    let mut parts = Parts::of(value)?;
    Ok((parts.time()?, parts.bytes()?))
}

/// What `due.lua` answers: the time, and ids with the times that they stand under.
pub(crate) fn due(value: Value) -> Result<(Timestamp, Vec<(Timestamp, RecordId)>)> {
    let mut parts = Parts::of(value)?;
    let now = parts.time()?;
    let mut list = parts.list()?;
    let mut due = Vec::with_capacity(list.0.len() / 2);
    while let Some(member) = list.bytes()? {
        let score = list.needed()?;
        let when = std::str::from_utf8(&score).ok().and_then(|it| it.parse().ok());
        // A score that is no whole number is none of ours; it stands last.
        due.extend(id(&member).map(|it| (when.map_or(Timestamp::MAX, Timestamp::from_millis), it)));
    }
    Ok((now, due))
}

/// What `scan.lua` answers: the time, and ids in order.
pub(crate) fn ids(value: Value) -> Result<(Timestamp, Vec<RecordId>)> {
    let mut parts = Parts::of(value)?;
    let now = parts.time()?;
    let mut list = parts.list()?;
    let mut ids = Vec::with_capacity(list.0.len());
    while let Some(member) = list.bytes()? {
        ids.extend(id(&member));
    }
    Ok((now, ids))
}

/// What `expire.lua` answers: whether it did.
pub(crate) fn did(value: &Value) -> Result<bool, Error> {
    match value {
        Value::Int(number) => Ok(*number == 1),
        _ => Err(fault::misunderstood()),
    }
}

fn id(member: &[u8]) -> Option<RecordId> {
    member.try_into().ok().map(RecordId::from_bytes)
}
