//! Query parameters: each known, each at most once.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query};
use http::Uri;
use onceward_core::{RecordId, Revision};

use crate::problem::Problem;

/// The parameters of one request. Take what is known; [`finish`](Self::finish) refuses the rest.
#[derive(Debug)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    asked: Vec<&'static str>,
}

impl Params {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::try_from_uri(uri)
            .map_err(|_| Problem::Invalid("the query cannot be read; percent-encode its values".into()))?;
        Ok(Self { pairs, asked: Vec::new() })
    }

    /// The value of `name`, if it was given.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<String> {
        self.asked.push(name);
        let at = self.pairs.iter().position(|it| it.0 == name)?;
        Some(self.pairs.remove(at).1)
    }

    /// The value of `name`, read by `read`.
    pub(crate) fn parse<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| Problem::Invalid(format!("`{name}` must be {expected}")))
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.pairs.first() else { return Ok(()) };
        let name: String = name.chars().take(64).collect();
        Err(Problem::Invalid(if self.asked.contains(&name.as_str()) {
            format!("parameter `{name}` is given twice")
        } else if self.asked.is_empty() {
            format!("unknown parameter `{name}`; none is known here")
        } else {
            format!("unknown parameter `{name}`; known are {}", self.asked.join(", "))
        }))
    }
}

/// The `{id}` of a path.
pub(crate) type NamedRecord = Result<Path<String>, PathRejection>;

/// The record that the path names, in full: a prefix could come to mean another record.
pub(crate) fn record_id(named: NamedRecord) -> Result<RecordId, Problem> {
    // What is no UTF-8 is no record id either.
    named.ok().and_then(|Path(text)| RecordId::parse(&text)).ok_or_else(|| {
        Problem::Invalid("the record id must be 64 hexadecimal digits, as a listing shows it".into())
    })
}

/// The revision that an operator was shown.
pub(crate) const REVISION: &str = "the revision that was shown, a whole number of at most 19 digits";
/// The same for readers of the document. More digits stand for a time that no clock tells.
pub(crate) const REVISION_PATTERN: &str = "^[0-9]{1,19}$";

pub(crate) fn revision(text: &str) -> Option<Revision> {
    let digits = (1..=19).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(Revision)
}

/// The most characters of a reason.
pub(crate) const REASON_CHARS_MAX: usize = 255;
/// Some text without control characters, for readers of the document.
pub(crate) const REASON_PATTERN: &str = "^[^\\u0000-\\u001F\\u007F-\\u009F]*\
    [^ \\u0000-\\u001F\\u007F-\\u009F][^\\u0000-\\u001F\\u007F-\\u009F]*$";

/// Why a live lease is overruled: some text, no line breaks or other control characters, for the audit.
pub(crate) fn reason(text: &str) -> Result<String, Problem> {
    let said = text.trim_matches(' ');
    if said.is_empty() || text.chars().count() > REASON_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(Problem::Invalid(format!(
            "`force` must give the reason, 1 to {REASON_CHARS_MAX} characters without control characters"
        )));
    }
    Ok(said.to_owned())
}

/// What [`duration`] reads, for people and for readers of the document.
pub(crate) const DURATION: &str = "a duration such as 10m or 36h: digits, then ms, s, m, h or d";
pub(crate) const DURATION_PATTERN: &str = "^[0-9]{1,9}(ms|s|m|h|d)$";

pub(crate) fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|it: char| it.is_ascii_digit());
    let digits = text.strip_suffix(unit).filter(|it| it.len() <= 9)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return None,
    };
    Some(Duration::from_millis(digits.parse::<u64>().ok()? * millis))
}

/// A number in digits alone.
pub(crate) fn count(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_digits_and_one_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        };
        check("250ms", Some(250));
        check("10s", Some(10_000));
        check("10m", Some(600_000));
        check("36h", Some(129_600_000));
        check("7d", Some(604_800_000));
        check("999999999d", Some(86_399_999_913_600_000));
        for wrong in ["", "10", "m", "0", "-1m", "+1m", "1.5h", "1h30m", "1 h", "1M", "1000000000s", "١m"] {
            check(wrong, None);
        }
    }
}
