//! What all three commands can be told.

use std::path::PathBuf;

/// The gateway to start and where to put its files.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The onceward binary to start
    #[arg(long, value_name = "FILE", default_value = "target/release/onceward")]
    pub binary: PathBuf,
    /// Where the temporary folder with the store is made; the system's default when absent
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Settings instead of the built-in ones; {upstream} and {upstream2} become URLs of the test upstream
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
}
