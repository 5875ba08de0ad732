//! Who asks for a change, as the request itself says.

use http::{HeaderMap, HeaderName};

use crate::problem::Problem;

/// The header with the name of the operator.
pub(crate) const OPERATOR: HeaderName = HeaderName::from_static("onceward-operator");

/// The longest name, in characters.
const CHARS_MAX: usize = 100;

/// The same rule for readers of the document: visible ASCII, blanks only inside.
pub(crate) const PATTERN: &str = "^[!-~]([ -~]{0,98}[!-~])?$";

/// The name that whoever holds the token goes by. It is a claim for the audit, never a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operator(String);

impl Operator {
    /// The name in `headers`, if there is one. A name that cannot stand in a log line is refused.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut lines = headers.get_all(OPERATOR).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        let name = line.to_str().ok().filter(|it| {
            let fits = (1..=CHARS_MAX).contains(&it.len());
            fits && it.bytes().all(|it| matches!(it, b' '..=b'~')) && it.trim() == *it
        });
        match (name, lines.next()) {
            (Some(name), None) => Ok(Some(Self(name.to_owned()))),
            _ => Err(Problem::Invalid(
                "`Onceward-Operator` must be one line of 1 to 100 visible ASCII characters, with blanks only \
                 between them"
                    .into(),
            )),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
