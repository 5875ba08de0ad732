//! Why settings cannot be used, in words an operator can act on.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Settings that cannot be used. Nothing was started or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file could not be read.
    #[error("cannot read the settings file {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the settings is wrong. `Display` gives one line per problem.
    #[error("{}", lines(.0))]
    Refused(Vec<Problem>),
}

/// One thing that is wrong, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where the value came from.
    pub place: Place,
    /// The key as a dotted path, such as `policy.lease` or `route[2].retention` (routes count from 0).
    /// Empty when the file is no TOML at all.
    pub key: String,
    /// What is wrong and what is accepted.
    pub says: String,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nobody set it.
    Default,
    /// A line of the file, counted from 1.
    Line {
        /// The name of the file, when there is one.
        file: Option<String>,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, with its dashes.
    Flag(&'static str),
}

/// An error and all that caused it, in one line.
#[must_use]
pub fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, says } = self;
        match place {
            Place::Default => write!(out, "{key}: {says}"),
            Place::Line { .. } if key.is_empty() => write!(out, "{place}: {says}"),
            Place::Line { .. } => write!(out, "{place}: {key}: {says}"),
            // The name of a variable or flag says which key is meant.
            Place::Variable(_) | Place::Flag(_) => write!(out, "{place}: {says}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Line { file: Some(file), line } => write!(out, "{file}:{line}"),
            Self::Line { file: None, line } => write!(out, "line {line}"),
            Self::Variable(name) => out.write_str(name),
            Self::Flag(name) => out.write_str(name),
        }
    }
}
