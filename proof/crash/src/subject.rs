//! What every run is told: what is run, by what seed, and where its logs go.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::Result;

/// What is run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Subject {
    /// The command, with the features of what it is to work with
    #[arg(long)]
    binary: PathBuf,
    /// What everything random comes from
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// A break that this build was made for
    #[arg(long)]
    pub(crate) mutant: Option<String>,
    /// Keep everything that is written in this directory, which must not exist
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Where a run writes. What nobody wanted to keep goes with this.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    _temporary: TempDir,
}

impl Subject {
    /// The command, wherever it is called from.
    pub(crate) fn binary(&self) -> Result<PathBuf> {
        Ok(self.binary.canonicalize().map_err(|it| format!("{}: {it}", self.binary.display()))?)
    }

    /// Makes the folder of a run of this kind.
    pub(crate) fn folder(&self, kind: &str) -> Result<Folder> {
        let temporary = tempfile::Builder::new().prefix(&format!("onceward-crash-{kind}-")).tempdir()?;
        let path = match &self.keep {
            Some(keep) => {
                std::fs::create_dir(keep)?;
                keep.canonicalize()?
            }
            None => temporary.path().to_owned(),
        };
        Ok(Folder { path, _temporary: temporary })
    }
}
