//! `onceward completions`: what a shell needs to complete our flags.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::exit::Exit;
use crate::say::say;

/// Print the script that makes a shell complete verbs and flags
///
/// bash: onceward completions bash > /etc/bash_completion.d/onceward
/// zsh: onceward completions zsh > ~/.zfunc/_onceward, with ~/.zfunc in fpath
/// fish: onceward completions fish > ~/.config/fish/completions/onceward.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let mut script = Vec::new();
    generate(args.shell, &mut super::Command::command(), "onceward", &mut script);
    say(&String::from_utf8_lossy(&script));
    Exit::Done.code()
}
