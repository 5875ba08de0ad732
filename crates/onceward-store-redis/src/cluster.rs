//! Which node of a Cluster has which slots, as the nodes say; and where the primary is, as Sentinels say.

use redis::Value;

use crate::keys::SLOTS;
use crate::open::OpenError;
use crate::settings::Address;

/// Slots from the first to the last, and the primary that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) node: Address,
}

/// Reads what `CLUSTER SLOTS` says. A node that does not know its own name is where it was asked.
///
/// # Errors
/// It cannot be read, or some slots have no node.
pub(crate) fn ranges(told: Value, asked: &Address) -> Result<Vec<Range>, OpenError> {
    let unread = || OpenError::Cluster { cause: "CLUSTER SLOTS cannot be read".to_owned() };
    let ranges: Option<Vec<_>> = told
        .into_sequence()
        .map_err(|_| unread())?
        .into_iter()
        .map(|it| range(it.into_sequence().ok()?, asked))
        .collect();
    let mut ranges = ranges.ok_or_else(unread)?;
    ranges.sort_unstable_by_key(|it| it.first);
    let covered: u32 = ranges.iter().map(|it| u32::from(it.last - it.first) + 1).sum();
    if covered < u32::from(SLOTS) {
        let cause = format!("only {covered} of its {SLOTS} slots have a node");
        return Err(OpenError::Cluster { cause });
    }
    Ok(ranges)
}

/// Reads what a Sentinel says of the primary called `name`: it has every slot.
///
/// # Errors
/// It cannot be read, or the Sentinel does not know the name.
pub(crate) fn primary(told: &Value, name: &str, asked: &Address) -> Result<Vec<Range>, OpenError> {
    let node = match told {
        Value::Nil => {
            let cause = format!("{asked} knows no primary called `{name}`");
            return Err(OpenError::Sentinel { cause });
        }
        Value::Array(parts) => match parts.as_slice() {
            [Value::BulkString(host), Value::BulkString(port)] => {
                let text = |it: &[u8]| String::from_utf8(it.to_vec()).ok();
                text(host).zip(text(port).and_then(|it| it.parse().ok()))
            }
            _ => None,
        },
        _ => None,
    };
    let unread = || OpenError::Sentinel { cause: format!("what {asked} says cannot be read") };
    let (host, port) = node.ok_or_else(unread)?;
    Ok(vec![Range { first: 0, last: SLOTS - 1, node: Address { host, port } }])
}

fn range(parts: Vec<Value>, asked: &Address) -> Option<Range> {
    let mut parts = parts.into_iter();
    let (first, last) = (slot(&parts.next()?)?, slot(&parts.next()?)?);
    let mut node = parts.next()?.into_sequence().ok()?.into_iter();
    let host = match node.next()? {
        Value::BulkString(host) => String::from_utf8(host).ok().filter(|it| !it.is_empty() && it != "?"),
        Value::Nil => None,
        _ => return None,
    };
    let Value::Int(port) = node.next()? else { return None };
    let host = host.unwrap_or_else(|| asked.host.clone());
    let node = Address { host, port: u16::try_from(port).ok()? };
    (first <= last).then_some(Range { first, last, node })
}

fn slot(value: &Value) -> Option<u16> {
    let Value::Int(slot) = value else { return None };
    u16::try_from(*slot).ok().filter(|it| *it < SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ranges: &[(i64, i64, Value, i64)]) -> Value {
        let range = |(first, last, host, port): &(i64, i64, Value, i64)| {
            let node = |host: Value| Value::Array(vec![host, Value::Int(*port), Value::Nil]);
            Value::Array(vec![Value::Int(*first), Value::Int(*last), node(host.clone()), node(Value::Nil)])
        };
        Value::Array(ranges.iter().map(range).collect())
    }

    #[test]
    fn a_cluster_is_used_when_every_slot_has_a_node() {
        let asked = Address { host: "seed".into(), port: 1 };
        let host = |it: &str| Value::BulkString(it.into());
        let whole = told(&[(8000, 16_383, Value::Nil, 7002), (0, 7999, host("a"), 7001)]);
        let read = ranges(whole, &asked).unwrap();
        let shown: Vec<_> = read.iter().map(|it| (it.first, it.last, it.node.to_string())).collect();
        assert_eq!(shown, [(0, 7999, "a:7001".into()), (8000, 16_383, "seed:7002".into())]);
        for bad in [
            told(&[]),
            told(&[(0, 16_382, host("a"), 7001)]),
            told(&[(0, 16_384, host("a"), 7001)]),
            told(&[(0, 16_383, host("a"), 70_001)]),
            Value::Int(1),
            Value::Array(vec![Value::Int(1)]),
        ] {
            assert!(matches!(ranges(bad, &asked), Err(OpenError::Cluster { .. })));
        }
    }
}
