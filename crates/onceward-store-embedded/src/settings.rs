//! What can be chosen about an embedded store, and how a URL says it.

use std::path::PathBuf;
use std::time::Duration;

/// The choices of an embedded store. [`EmbeddedSettings::new`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// The directory. It is made when it does not exist, for this user alone.
    pub path: PathBuf,
    /// What a returned write survives.
    pub durability: Durability,
    /// How long to wait for another process to leave the directory. Default 45 s, longer than a gateway takes to stop with its defaults.
    pub lock_wait: Duration,
    /// How many calls one sync may cover. 1 to 65 536, default 512.
    pub max_group: usize,
    /// How many calls may wait to be written; more of them wait outside. What is written does not count, though its
    /// caller may not have heard yet. 1 to 65 536, default 1024.
    pub max_queue: usize,
    /// How much memory may hold blocks of the stored files. At least 1 MiB, default 32 MiB.
    pub cache_bytes: u64,
    /// When a segment of the log is full. There are two or three of them, so this also bounds what an opening after a
    /// crash has to replay. 64 KiB to 1 GiB, default 16 MiB, less on a small disk. The URL does not say it.
    pub segment_bytes: u64,
    /// Whether calls that wait on the same tokio runtime of one thread are answered by one task on it: one wake-up for
    /// each sync instead of one for each call. A call that is made within such a runtime, but polled while that one does
    /// not run (as by another executor that blocks its thread), would never hear. Default `false`. The URL does not
    /// say it.
    pub answer_together: bool,
}

/// What a returned write survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process and a power cut.
    #[default]
    Durable,
    /// The end of the process. A power cut may take about the last second of writes, so that operations whose
    /// callers already have their answer can run again.
    Relaxed,
}

/// A URL that does not describe an embedded store. Its text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Another scheme.
    #[error("the store URL does not begin with `embedded:`; write `embedded:./data`")]
    Scheme,
    /// No directory, or one that looks like a host.
    #[error("the store URL names no directory; write `embedded:./data` or `embedded:/var/lib/onceward`")]
    Path,
    /// A parameter that does not exist.
    #[error(
        "the store URL has an unknown parameter `{name}`; there are durability, lock_wait, max_group, \
         max_queue and cache"
    )]
    Unknown {
        /// The parameter as written.
        name: String,
    },
    /// A parameter that stands there twice.
    #[error("the store URL has the parameter `{name}` twice; write it once")]
    Twice {
        /// The parameter.
        name: String,
    },
    /// A value that the parameter does not take.
    #[error("`{value}` is not a value for `{name}` in the store URL; write {remedy}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// The value as written.
        value: String,
        /// What the parameter takes.
        remedy: &'static str,
    },
}

const CACHE_BYTES_MIN: u64 = 1 << 20;
const GROUP_MAX: usize = 65_536;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

impl EmbeddedSettings {
    /// The defaults: durable, in the directory `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::Durable,
            lock_wait: Duration::from_secs(45),
            max_group: 512,
            max_queue: 1024,
            cache_bytes: 32 << 20,
            segment_bytes: 16 << 20,
            answer_together: false,
        }
    }

    /// Reads `embedded:PATH?durability=durable|relaxed&lock_wait=5s&max_group=512&max_queue=1024&cache=32MiB`.
    /// Every parameter may be left out. The path is taken as written, up to the `?`.
    ///
    /// # Errors
    /// [`SettingsError`] names the parameter and what to write.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        let rest = url.strip_prefix("embedded:").ok_or(SettingsError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // `embedded://data` would silently be the directory `/data`.
        let looks_like_a_host = path.starts_with("//") && !path.starts_with("///");
        if path.is_empty() || looks_like_a_host {
            return Err(SettingsError::Path);
        }
        let mut settings = Self::new(path);
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(SettingsError::Twice { name: name.to_owned() });
            }
            seen.push(name);
            settings.set(name, value)?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let wrong = |name, remedy| SettingsError::Value { name, value: value.to_owned(), remedy };
        match name {
            "durability" => {
                self.durability = match value {
                    "durable" => Durability::Durable,
                    "relaxed" => Durability::Relaxed,
                    _ => return Err(wrong("durability", "`durable` or `relaxed`")),
                }
            }
            "lock_wait" => {
                self.lock_wait = humantime::parse_duration(value)
                    .map_err(|_| wrong("lock_wait", "a duration such as `30s` or `0s`"))?;
            }
            "max_group" => {
                self.max_group = count(value, GROUP_MAX)
                    .ok_or_else(|| wrong("max_group", "a whole number from 1 to 65536"))?;
            }
            "max_queue" => {
                self.max_queue = count(value, GROUP_MAX)
                    .ok_or_else(|| wrong("max_queue", "a whole number from 1 to 65536"))?;
            }
            "cache" => {
                self.cache_bytes = size(value)
                    .filter(|it| *it >= CACHE_BYTES_MIN)
                    .ok_or_else(|| wrong("cache", "a size of at least `1MiB`"))?;
            }
            _ => return Err(SettingsError::Unknown { name: name.to_owned() }),
        }
        Ok(())
    }

    /// The settings within their bounds: values that were set by hand are moved to the nearest one allowed.
    pub(crate) fn bounded(self) -> Self {
        Self {
            max_group: self.max_group.clamp(1, GROUP_MAX),
            max_queue: self.max_queue.clamp(1, GROUP_MAX),
            cache_bytes: self.cache_bytes.max(CACHE_BYTES_MIN),
            segment_bytes: self.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            ..self
        }
    }
}

fn count(text: &str, max: usize) -> Option<usize> {
    text.parse().ok().filter(|it| (1..=max).contains(it))
}

fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_every_setting_and_the_rest_stay_as_they_are() {
        let plain = EmbeddedSettings::new;
        let cases = [
            ("embedded:./data", plain("./data")),
            ("embedded:/var/lib/onceward", plain("/var/lib/onceward")),
            ("embedded:///var/lib/onceward", plain("///var/lib/onceward")),
            ("embedded:my data", plain("my data")),
            ("embedded:d?", plain("d")),
            ("embedded:d?durability=durable", plain("d")),
            (
                "embedded:d?durability=relaxed&lock_wait=5s",
                EmbeddedSettings {
                    durability: Durability::Relaxed,
                    lock_wait: Duration::from_secs(5),
                    ..plain("d")
                },
            ),
            (
                "embedded:d?max_group=1&max_queue=65536&cache=16MiB",
                EmbeddedSettings { max_group: 1, max_queue: 65_536, cache_bytes: 16 << 20, ..plain("d") },
            ),
            ("embedded:d?cache=1048576", EmbeddedSettings { cache_bytes: 1 << 20, ..plain("d") }),
        ];
        for (url, expected) in cases {
            assert_eq!(EmbeddedSettings::from_url(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_by_parameter_with_what_to_write() {
        let cases = [
            ("redis:./data", ["`embedded:./data`", "begin with"]),
            ("embedded:", ["no directory", "`embedded:./data`"]),
            ("embedded:?durability=relaxed", ["no directory", "`embedded:./data`"]),
            ("embedded://data", ["no directory", "`embedded:./data`"]),
            ("embedded:d?durable=no", ["`durable`", "durability"]),
            ("embedded:d?Durability=relaxed", ["`Durability`", "durability, lock_wait"]),
            ("embedded:d?durability", ["`durability`", "`durable` or `relaxed`"]),
            ("embedded:d?durability=relax", ["`relax`", "`durable` or `relaxed`"]),
            ("embedded:d?lock_wait=5", ["`lock_wait`", "`30s`"]),
            ("embedded:d?lock_wait=5s&lock_wait=6s", ["`lock_wait` twice", "once"]),
            ("embedded:d?max_group=0", ["`max_group`", "from 1 to"]),
            ("embedded:d?max_queue=x", ["`max_queue`", "from 1 to"]),
            ("embedded:d?cache=1KiB", ["`cache`", "`1MiB`"]),
            ("embedded:d?cache=8MB", ["`cache`", "`1MiB`"]),
            ("embedded:d?cache=99999999999GiB", ["`cache`", "`1MiB`"]),
        ];
        for (url, parts) in cases {
            let said = EmbeddedSettings::from_url(url).unwrap_err().to_string();
            assert!(parts.iter().all(|it| said.contains(it)), "{url}: {said}");
        }
    }
}
