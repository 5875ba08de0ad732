//! Query parameters: each known, each at most once.

use axum::extract::Query;
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

/// The record that the path names, in full: a prefix could come to mean another record.
pub(crate) fn record_id(text: &str) -> Result<RecordId, Problem> {
    RecordId::parse(text).ok_or_else(|| {
        Problem::Invalid("the record id must be 64 hexadecimal digits, as a listing shows it".into())
    })
}

/// The revision that an operator was shown.
pub(crate) const REVISION: &str = "the revision that was shown, a whole number";

pub(crate) fn revision(text: &str) -> Option<Revision> {
    let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(Revision)
}

/// Why a live lease is overruled: some text, no line breaks or other control characters, for the audit.
pub(crate) fn reason(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return Err(Problem::Invalid(
            "`force` must give the reason, 1 to 255 bytes without control characters".into(),
        ));
    }
    Ok(text.to_owned())
}
