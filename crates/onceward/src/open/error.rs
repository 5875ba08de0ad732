//! Why a store cannot be opened, and whether it ever can.

#[cfg(feature = "embedded")]
use onceward_store_embedded::{OpenError as EmbeddedError, SettingsError};

use crate::mover::{MoveError, place};

/// Why a store cannot be opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such store.
    #[error("there is no store `{scheme}:`; use `embedded:PATH`, `postgres://…`, `redis://…` or `memory:`")]
    Scheme {
        /// The scheme as written.
        scheme: String,
    },
    /// This build was made without the store.
    #[error("this build has no store for `{scheme}:`; build it with `--features {feature}`")]
    NotBuilt {
        /// The scheme as written.
        scheme: String,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// `memory:` takes nothing behind it.
    #[error("the store URL `memory:` takes no path and no parameters")]
    Memory,
    /// The URL of an embedded store is wrong.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The directory of an embedded store cannot be opened.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The URL of a PostgreSQL store is wrong.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    PostgresSettings(#[from] onceward_store_postgres::SettingsError),
    /// The database cannot be used.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] onceward_store_postgres::OpenError),
    /// The URL of a Redis store is wrong.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    RedisSettings(#[from] onceward_store_redis::SettingsError),
    /// The server or cluster cannot be used.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] onceward_store_redis::OpenError),
    /// Records cannot be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// Whoever works on it alone would run again what was run since.
    #[error(
        "the records of this store were moved to {}, so nothing may run on this one: keys that were used since are not known \
         here, and their operations would run again; set `store` to that one, with its user and password (to come back on \
         purpose, move the records here: `onceward store copy`, or `store_from`)",
        place(to)
    )]
    MovedAway {
        /// Where they are, without user and password; empty where that is not known.
        to: String,
    },
    /// The store is open, and what it knows of itself could not be read.
    #[error(transparent)]
    Asked(onceward_core::Error),
}

impl OpenError {
    /// Whether no waiting cures it.
    #[cfg_attr(
        not(feature = "embedded"),
        expect(unused_variables, reason = "only a directory can be in use")
    )]
    pub(super) fn is_final(&self, must_be_left: bool) -> bool {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(EmbeddedError::Layout { .. }) => true,
            #[cfg(feature = "embedded")]
            Self::Embedded(EmbeddedError::Locked { .. }) => must_be_left,
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => error.is_final(),
            #[cfg(feature = "redis")]
            Self::Redis(error) => error.is_final(),
            Self::Move(error) => error.is_final(),
            Self::MovedAway { .. } => true,
            _ => false,
        }
    }
}
