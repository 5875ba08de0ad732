//! Reading on past damage: one block that cannot be read takes nobody else's rows from a listing.
//!
//! The engine's iterators stop at a damaged block, even a few rows before it, for they read ahead, and do not say
//! where that block begins and ends. So both places are felt for: in steps that double, then by halves. What other
//! files hold between its first and its last row is passed over with it; each of those can still be read by its id.

use std::sync::PoisonError;

use fjall::{Iter, Keyspace, Readable as _, Slice, Snapshot};
use onceward_core::{ErrorKind, Result};

use crate::fault;
use crate::shelf::Shelf;

/// How many damaged places are remembered, so that each is logged once and not felt for again.
const SPANS_MAX: usize = 1000;

/// A part of a table that cannot be read: from the first key up to but without the second, or to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    table: &'static str,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

/// The rows of a table from one key to another, both included, without those that cannot be read.
pub(crate) struct Rows<'a, const N: usize> {
    shelf: &'a Shelf,
    table: &'a Keyspace,
    name: &'static str,
    snapshot: &'a Snapshot,
    /// Where to go on; `None` behind the last key there can be.
    from: Option<[u8; N]>,
    last: [u8; N],
    rows: Iter,
    /// Where to go on behind the damage that ends `rows`, if there is any.
    jump: Option<Option<[u8; N]>>,
    /// The last row in front of that damage: the engine finds it, but reads on when it is the end of a range.
    edge: Option<[u8; N]>,
}

impl Shelf {
    /// The rows of `records` from `from` on.
    pub(crate) fn record_rows<'a>(&'a self, snapshot: &'a Snapshot, from: [u8; 32]) -> Rows<'a, 32> {
        Rows::new(self, (&self.records, "records"), snapshot, from, [0xff; 32])
    }

    /// The rows of the agenda from `from` to `last`.
    pub(crate) fn agenda_rows<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        from: [u8; 41],
        last: [u8; 41],
    ) -> Rows<'a, 41> {
        Rows::new(self, (&self.agenda, "agenda"), snapshot, from, last)
    }

    /// How many places in the tables turned out to be unreadable since the files were opened.
    pub(crate) fn damaged(&self) -> usize {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<'a, const N: usize> Rows<'a, N> {
    fn new(
        shelf: &'a Shelf,
        (table, name): (&'a Keyspace, &'static str),
        snapshot: &'a Snapshot,
        from: [u8; N],
        last: [u8; N],
    ) -> Self {
        let rows = snapshot.range(table, from..=last);
        Self { shelf, table, name, snapshot, from: Some(from), last, rows, jump: None, edge: None }
    }

    /// Reads up to the damage that follows `from`, and then on behind it.
    fn pass(&mut self, from: [u8; N]) -> Result<()> {
        let known = if self.jump.is_none() { self.known(&from) } else { None };
        let (begin, to) = match known {
            Some(known) => known,
            None => {
                let to = behind(from, |it| self.reads(it))?;
                let begin = before(from, to.unwrap_or([0xff; N]), |it| self.reads_to(&from, it))?;
                self.note(&begin, to);
                (begin, to)
            }
        };
        self.jump = Some(to);
        self.edge = Some(begin);
        match minus_one(begin).filter(|it| *it >= from) {
            Some(clean) => self.rows = self.snapshot.range(self.table, from..=clean),
            None => self.rows = self.snapshot.range(self.table, from..from),
        }
        Ok(())
    }

    /// Goes on behind the damage, once all that lies before it was read. Says whether there is anything.
    fn go_on(&mut self) -> bool {
        let Some(to) = self.jump.take() else { return false };
        self.from = to.filter(|it| *it <= self.last);
        let Some(from) = self.from else { return false };
        self.rows = self.snapshot.range(self.table, from..=self.last);
        true
    }

    /// Whether everything from one key to the other, both included, can be read.
    fn reads_to(&self, from: &[u8; N], to: &[u8; N]) -> Result<bool> {
        for row in self.snapshot.range(self.table, *from..=*to) {
            match row.into_inner().map_err(|it| fault::reading(&it)) {
                Ok(_) => {}
                Err(it) if it.kind() == ErrorKind::Corrupt => return Ok(false),
                Err(it) => return Err(it),
            }
        }
        Ok(true)
    }

    /// Whether the first row at or behind `key` can be read, or there is none.
    fn reads(&self, key: &[u8; N]) -> Result<bool> {
        let first = self.snapshot.range(self.table, *key..).next();
        match first.map_or(Ok(()), |it| it.into_inner().map(|_| ())).map_err(|it| fault::reading(&it)) {
            Ok(()) => Ok(true),
            Err(it) if it.kind() == ErrorKind::Corrupt => Ok(false),
            Err(it) => Err(it),
        }
    }

    /// Where the next damage begins and ends that was met before.
    fn known(&self, key: &[u8; N]) -> Option<([u8; N], Option<[u8; N]>)> {
        let spans = self.shelf.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = |it: &&Span| it.table == self.name && it.to.as_ref().is_none_or(|to| to[..] > key[..]);
        let span = spans.iter().filter(ahead).min_by_key(|it| &it.from)?;
        Some((span.from[..].try_into().ok()?, span.to.as_ref().and_then(|it| it[..].try_into().ok())))
    }

    fn note(&self, from: &[u8; N], to: Option<[u8; N]>) {
        let span = Span { table: self.name, from: from.to_vec(), to: to.map(|it| it.to_vec()) };
        let mut spans = self.shelf.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() < SPANS_MAX && !spans.contains(&span) {
            tracing::error!(
                table = self.name,
                "a part of the store's files is damaged; its records are refused and left as they are, the \
                 rest goes on. Stop the gateway and run `onceward doctor --repair`"
            );
            spans.push(span);
        }
    }
}

impl<const N: usize> Iterator for Rows<'_, N> {
    type Item = Result<([u8; N], Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.from?;
            let Some(row) = self.rows.next() else {
                if let Some(edge) = self.edge.take().filter(|it| *it <= self.last)
                    && let Ok(Some(value)) = self.snapshot.get(self.table, edge)
                {
                    return Some(Ok((edge, value)));
                }
                if self.go_on() { continue } else { return None }
            };
            match row.into_inner() {
                Ok((key, value)) => {
                    // There is no key of another length among these.
                    let Ok(key) = <[u8; N]>::try_from(&key[..]) else { continue };
                    self.from = next_key(key);
                    return Some(Ok((key, value)));
                }
                Err(error) => {
                    let error = fault::reading(&error);
                    let passed = match error.kind() {
                        ErrorKind::Corrupt => self.pass(from),
                        _ => Err(error),
                    };
                    if let Err(error) = passed {
                        self.from = None;
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

/// The first key behind `from` at which `reads` says yes, `None` when it nowhere does. With one damaged place this is
/// exactly where it ends; with several, what lies between two of them may be passed over, too.
fn behind<const N: usize>(
    from: [u8; N],
    reads: impl Fn(&[u8; N]) -> Result<bool>,
) -> Result<Option<[u8; N]>> {
    let mut low = from;
    // Where a doubled step would lead beyond every key, the last one leads to the very last key.
    let steps = (0..N * 8).map_while(|bit| plus(from, bit)).chain([[0xff; N]]);
    for mut high in steps {
        if !reads(&high)? {
            low = high;
            continue;
        }
        while let Some(middle) = between(low, high) {
            if reads(&middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        return Ok(Some(high));
    }
    Ok(None)
}

/// The first key at which damage begins, given that it ends at `to`: up to but without it, everything from `from`
/// on `reads`.
fn before<const N: usize>(
    from: [u8; N],
    to: [u8; N],
    reads: impl Fn(&[u8; N]) -> Result<bool>,
) -> Result<[u8; N]> {
    if !reads(&from)? {
        return Ok(from);
    }
    let (mut low, mut high) = (from, to);
    while let Some(middle) = between(low, high) {
        if reads(&middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high)
}

fn minus_one<const N: usize>(mut key: [u8; N]) -> Option<[u8; N]> {
    for byte in key.iter_mut().rev() {
        let borrow;
        (*byte, borrow) = byte.overflowing_sub(1);
        if !borrow {
            return Some(key);
        }
    }
    None
}

/// The key right behind `key`, among those of its length.
pub(crate) fn next_key<const N: usize>(key: [u8; N]) -> Option<[u8; N]> {
    plus(key, 0)
}

/// `key` + 2^`bit`, as a big-endian number.
fn plus<const N: usize>(mut key: [u8; N], bit: usize) -> Option<[u8; N]> {
    let mut carry = 1_u16 << (bit % 8);
    for byte in key.iter_mut().rev().skip(bit / 8) {
        let [high, low] = (u16::from(*byte) + carry).to_be_bytes();
        (*byte, carry) = (low, u16::from(high));
    }
    (carry == 0).then_some(key)
}

/// The number half-way; `None` when there is none between them.
fn between<const N: usize>(low: [u8; N], high: [u8; N]) -> Option<[u8; N]> {
    let (mut sum, mut carry) = ([0; N], 0_u16);
    for (at, byte) in sum.iter_mut().enumerate().rev() {
        let [up, down] = (u16::from(low[at]) + u16::from(high[at]) + carry).to_be_bytes();
        (*byte, carry) = (down, u16::from(up));
    }
    for byte in &mut sum {
        let [_, half] = ((carry << 8 | u16::from(*byte)) >> 1).to_be_bytes();
        (carry, *byte) = (u16::from(*byte & 1), half);
    }
    (sum > low && sum < high).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(it: u32) -> [u8; 4] {
        it.to_be_bytes()
    }

    #[test]
    fn steps_and_halves_are_those_of_numbers() {
        assert_eq!(plus(number(0x01ff), 0), Some(number(0x0200)));
        assert_eq!(plus(number(5), 17), Some(number(5 + (1 << 17))));
        assert_eq!(plus(number(u32::MAX), 0), None);
        assert_eq!(plus(number(1 << 31), 31), None);
        for (low, high) in [(0, 2), (7, 1000), (0x0fff_ffff, 0xffff_fffe), (1, u32::MAX)] {
            let half = u32::try_from((u64::from(low) + u64::from(high)) / 2).unwrap();
            assert_eq!(between(number(low), number(high)), Some(number(half)), "{low} {high}");
        }
        assert_eq!(between(number(7), number(8)), None);
        assert_eq!(minus_one(number(0x0002_0000)), Some(number(0x0001_ffff)));
        assert_eq!(minus_one(number(0)), None);
    }

    #[test]
    fn the_end_of_a_damaged_place_is_found_exactly() {
        for (from, end) in [(0, 1), (0, 77), (1000, 1_000_000), (5, u32::MAX), (u32::MAX - 3, u32::MAX)] {
            let reads = |it: &[u8; 4]| Ok(u32::from_be_bytes(*it) >= end);
            assert_eq!(behind(number(from), reads).unwrap(), Some(number(end)), "{from} {end}");
        }
        assert_eq!(behind(number(9), |_| Ok(false)).unwrap(), None);
    }

    #[test]
    fn the_beginning_of_a_damaged_place_is_found_exactly() {
        for (from, begin, end) in [(0, 0, 9), (0, 1, 9), (3, 77, 1000), (5, 1 << 30, u32::MAX)] {
            let reads = |it: &[u8; 4]| Ok(u32::from_be_bytes(*it) < begin);
            assert_eq!(before(number(from), number(end), reads).unwrap(), number(begin), "{from} {begin}");
        }
    }

    #[test]
    fn of_two_damaged_places_both_are_passed() {
        let damaged = [(100, 200), (5000, 6000)];
        let reads =
            |it: &[u8; 4]| Ok(!damaged.iter().any(|(a, b)| (*a..*b).contains(&u32::from_be_bytes(*it))));
        let end = u32::from_be_bytes(behind(number(150), reads).unwrap().unwrap());
        assert_eq!(end, 200);
    }
}
