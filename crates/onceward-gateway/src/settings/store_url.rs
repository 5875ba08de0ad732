//! Which store, and what may be said about it.

use std::fmt;

use super::{units, unknown, value};

/// Where records are kept: `memory:` or `embedded:PATH[?durability=relaxed&lock_wait=30s]`, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

const SCHEMES: &[&str] = &["memory", "embedded", "postgres", "redis"];
const PARAMETERS: &[&str] = &["durability", "lock_wait"];

impl StoreUrl {
    /// Reads a store URL. Whether the place exists is not looked at.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').ok_or(SHAPE)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme {
            "memory" if rest.is_empty() => {}
            "memory" => return Err("`memory:` takes neither a path nor parameters".into()),
            "embedded" if path.is_empty() => return Err(SHAPE.into()),
            "embedded" => query.split('&').filter(|it| !it.is_empty()).try_for_each(parameter)?,
            "postgres" | "postgresql" | "redis" | "rediss" | "redis-cluster" => {
                return Err(format!("`{scheme}:` stores are not available in this build yet; {SHAPE}"));
            }
            other => {
                let nearest = unknown::nearest(other, SCHEMES.iter().copied());
                return Err(format!("unknown store `{other}:`; nearest valid: `{nearest}:`; {SHAPE}"));
            }
        }
        Ok(Self(text.into()))
    }

    /// The whole URL, password included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StoreUrl {
    fn default() -> Self {
        Self("embedded:./onceward-data".into())
    }
}

/// The URL with any password hidden.
impl fmt::Display for StoreUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&value::hidden(&self.0))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "StoreUrl({self})")
    }
}

const SHAPE: &str = "accepted: `memory:` or `embedded:PATH`";

fn parameter(text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let accepted = match name {
        "durability" if matches!(value, "durable" | "relaxed") => return Ok(()),
        "lock_wait" if units::duration(value).is_some() => return Ok(()),
        "durability" => "`durable` or `relaxed`",
        "lock_wait" => "a duration with a unit, such as `30s`",
        other => {
            let nearest = unknown::nearest(other, PARAMETERS.iter().copied());
            return Err(format!("unknown parameter `{other}`; nearest valid: `{nearest}`"));
        }
    };
    Err(format!("parameter `{name}`: found {value:?}; accepted: {accepted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_this_build_are_accepted_as_written() {
        for text in [
            "memory:",
            "embedded:./data",
            "embedded:/var/lib/onceward",
            "embedded:data?durability=relaxed",
            "embedded:data?durability=durable&lock_wait=500ms",
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_stores_are_refused_with_the_remedy() {
        for (text, expected) in [
            ("", "accepted: `memory:` or `embedded:PATH`"),
            ("./data", "accepted: `memory:` or `embedded:PATH`"),
            ("embedded:", "accepted: `memory:` or `embedded:PATH`"),
            ("embedded:?durability=relaxed", "accepted: `memory:` or `embedded:PATH`"),
            ("memory:x", "`memory:` takes neither a path nor parameters"),
            (
                "embeded:./data",
                "unknown store `embeded:`; nearest valid: `embedded:`; accepted: `memory:` or `embedded:PATH`",
            ),
            (
                "postgres://db/x",
                "`postgres:` stores are not available in this build yet; accepted: `memory:` or `embedded:PATH`",
            ),
            (
                "redis://cache",
                "`redis:` stores are not available in this build yet; accepted: `memory:` or `embedded:PATH`",
            ),
            ("embedded:d?durabilty=relaxed", "unknown parameter `durabilty`; nearest valid: `durability`"),
            (
                "embedded:d?durability=lax",
                "parameter `durability`: found \"lax\"; accepted: `durable` or `relaxed`",
            ),
            (
                "embedded:d?lock_wait=30",
                "parameter `lock_wait`: found \"30\"; accepted: a duration with a unit, such as `30s`",
            ),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_password_is_in_no_shown_form() {
        let url = StoreUrl("postgres://me:hunter2@db/x".into());
        assert_eq!(format!("{url} {url:?}"), "postgres://me:***@db/x StoreUrl(postgres://me:***@db/x)");
    }
}
