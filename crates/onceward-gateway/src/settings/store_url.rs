//! Which store. The backend that the scheme names judges the rest of the URL.

use std::fmt;

use super::{unknown, value};

/// Where records are kept: `memory:`, `embedded:PATH[?durability=relaxed&lock_wait=30s]`, `postgres://…` or
/// `redis://…`. Whether this build has that store, and whether the rest is right, is for the backend to say.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

const SCHEMES: &[&str] = &[
    "memory",
    "embedded",
    "postgres",
    "postgresql",
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
];

impl StoreUrl {
    /// Reads a store URL. Whether the place exists is not looked at.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').ok_or(SHAPE)?;
        match scheme {
            "memory" if rest.is_empty() => {}
            "memory" => return Err("`memory:` takes neither a path nor parameters".into()),
            // What follows is the backend's to judge, before anything starts.
            known if SCHEMES.contains(&known) => {}
            other => {
                let nearest = unknown::nearest(other, SCHEMES.iter().copied());
                return Err(format!("unknown store `{other}:`; nearest valid: `{nearest}:`; {SHAPE}"));
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether several processes may use it at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !["memory:", "embedded:"].iter().any(|it| self.0.starts_with(it))
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

const SHAPE: &str = "accepted: `memory:`, `embedded:PATH`, `postgres://…` or `redis://…`";

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
            "postgres://me@db/x?schema=onceward",
            "rediss://cache",
            "redis-cluster://a:1,b:2",
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_stores_are_refused_with_the_remedy() {
        for (text, expected) in [
            ("", SHAPE),
            ("./data", SHAPE),
            ("memory:x", "`memory:` takes neither a path nor parameters"),
            (
                "embeded:./data",
                "unknown store `embeded:`; nearest valid: `embedded:`; \
                 accepted: `memory:`, `embedded:PATH`, `postgres://…` or `redis://…`",
            ),
            (
                "postgress://me:hunter2@db/x",
                "unknown store `postgress:`; nearest valid: `postgres:`; \
                 accepted: `memory:`, `embedded:PATH`, `postgres://…` or `redis://…`",
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
