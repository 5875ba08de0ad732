//! Which build runs.

/// The build of the process, shown by `GET /healthz` and as the labels of `onceward_build_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The version, such as `0.1.0`.
    pub version: String,
    /// The commit that it was made of, or `unknown`.
    pub commit: String,
}

impl Default for Build {
    /// The version of this crate, of an unknown commit.
    fn default() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").into(), commit: "unknown".into() }
    }
}
