//! `onceward man`: the manual pages.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::exit::Exit;
use crate::say::say;

/// Write the manual pages
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the pages of all verbs into this folder, which is made if need be; without it, print the main page
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let written = match &args.folder {
        Some(folder) => write_all(folder),
        None => main_page().map(|it| say(&it)),
    };
    match written {
        Ok(()) => Exit::Done.code(),
        Err(error) => {
            let place = args.folder.as_deref().unwrap_or(Path::new("the page")).display();
            Exit::CannotStart.report(&format!("cannot write {place}: {error}"))
        }
    }
}

fn main_page() -> io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(super::Command::command()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// One page for each verb and each verb below it: `onceward-keys-list.1`.
fn write_all(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(super::Command::command(), folder)
}
