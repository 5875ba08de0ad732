//! How two records differ, in a few words.

use onceward_core::{Record, RecordId};

/// What is wrong with `shown`, if anything.
pub(crate) fn differ(id: RecordId, should: Option<&Record>, shown: Option<&Record>) -> Option<String> {
    let (should, shown) = match (should, shown) {
        (None, None) => return None,
        (None, Some(shown)) => return Some(format!("{id:?} should not be there, but is: {shown:?}")),
        (Some(should), None) => return Some(format!("{id:?} should be there, but is not: {should:?}")),
        (Some(should), Some(shown)) if should == shown => return None,
        (Some(should), Some(shown)) => (fields(should), fields(shown)),
    };
    let wrong = should.into_iter().zip(shown).filter(|(should, shown)| should != shown);
    let wrong: Vec<_> = wrong.map(|((name, it), (_, shown))| format!("{name} {shown}, not {it}")).collect();
    Some(format!("{id:?} has {}", wrong.join("; ")))
}

/// Everything that counts for the equality of two records. These are records of tests: their keys may be shown.
fn fields(record: &Record) -> Vec<(&'static str, String)> {
    macro_rules! fields {
        ($($field:ident)+) => {{
            let Record { $($field),+ } = record;
            vec![$((stringify!($field), format!("{:?}", $field))),+]
        }};
    }
    let mut fields = fields! {
        id listing rules fingerprint state owner fence revision attempt policy checkpoint lease_until run_until
        answer_until gone_until wake_at created updated
    };
    fields.push(("listed key", record.listing.key.clone()));
    if let onceward_core::State::Done(answer) = &record.state {
        fields.push(("answer bytes", format!("{:?}", answer.bytes())));
    }
    fields
}
