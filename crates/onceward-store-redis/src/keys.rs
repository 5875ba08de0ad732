//! Where a record lives: its bucket, and the names of the keys there.
//!
//! All keys of a bucket are in one hash slot of a Cluster, by the braces around its number; so are a record and the
//! indexes that it stands in.

use std::fmt::Write as _;

use onceward_core::RecordId;
use onceward_core::store::Agenda;

/// The names of the keys of one bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) number: u16,
    /// The hash slot that a Cluster has all these keys in.
    pub(crate) slot: u16,
    /// What every key of it begins with: `prefix:{b7}`.
    tag: String,
    pub(crate) ids: String,
    lease: String,
    wake: String,
    expiry: String,
    /// What is written only so that replicas have something to confirm.
    pub(crate) mark: String,
}

impl Bucket {
    fn new(prefix: &str, number: u16) -> Self {
        let tag = format!("{prefix}:{{b{number}}}");
        let named = |name| format!("{tag}:{name}");
        Self {
            number,
            slot: slot(&tag),
            ids: named("ids"),
            lease: named("lease"),
            wake: named("wake"),
            expiry: named("expiry"),
            mark: named("mark"),
            tag,
        }
    }

    /// The key of the record `id`.
    pub(crate) fn record(&self, id: RecordId) -> String {
        let mut key = String::with_capacity(self.tag.len() + 3 + 64);
        key.push_str(&self.tag);
        key.push_str(":r:");
        for byte in id.as_bytes() {
            write!(key, "{byte:02x}").expect("a string can be written to");
        }
        key
    }

    /// The index of the times of this kind.
    pub(crate) fn index(&self, what: Agenda) -> &str {
        match what {
            Agenda::Lease => &self.lease,
            Agenda::Wake => &self.wake,
            Agenda::Expiry => &self.expiry,
        }
    }
}

/// Every bucket of a store.
#[derive(Debug)]
pub(crate) struct Buckets(Vec<Bucket>);

impl Buckets {
    pub(crate) fn new(prefix: &str, count: u16) -> Self {
        Self((0..count.max(1)).map(|it| Bucket::new(prefix, it)).collect())
    }

    /// The bucket of a record: its number is in the id, so that it never moves.
    pub(crate) fn of(&self, id: RecordId) -> &Bucket {
        let [high, low, ..] = *id.as_bytes();
        &self.0[usize::from(u16::from_be_bytes([high, low])) % self.0.len()]
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.0.len()).expect("they are numbered by 16 bits")
    }

    pub(crate) fn all(&self) -> &[Bucket] {
        &self.0
    }

    /// The buckets from this one on.
    pub(crate) fn from(&self, number: u16) -> &[Bucket] {
        &self.0[usize::from(number).min(self.0.len())..]
    }
}

/// How many hash slots a Cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// The hash slot of a key: CRC16 (XMODEM) of what stands between its first braces, or of all of it.
pub(crate) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|it| it.1.split_once('}')).map(|it| it.0);
    let hashed = tag.filter(|it| !it.is_empty()).unwrap_or(key);
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// The key that says how a store is laid out.
pub(crate) fn meta(prefix: &str) -> String {
    format!("{{{prefix}}}:meta")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_the_cluster_specification_has() {
        // CLUSTER KEYSLOT of a server says the same.
        for (key, expected) in
            [("123456789", 0x31c3), ("foo", 12_182), ("{foo}bar", 12_182), ("a{}foo", slot("a{}foo"))]
        {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(slot("onceward:{b7}:ids"), slot("b7"));
        assert_ne!(slot("a{}foo"), slot("foo"));
    }

    #[test]
    fn the_keys_of_a_record_share_one_hash_tag() {
        let buckets = Buckets::new("shop", 64);
        let mut bytes = [0; 32];
        bytes[1] = 64 + 17;
        bytes[31] = 0xab;
        let id = RecordId::from_bytes(bytes);
        let bucket = buckets.of(id);
        assert_eq!(bucket.number, 17);
        assert_eq!(bucket.record(id), format!("shop:{{b17}}:r:0051{}ab", "00".repeat(29)));
        assert_eq!(bucket.index(Agenda::Lease), "shop:{b17}:lease");
        assert_eq!(bucket.ids, "shop:{b17}:ids");
    }
}
