//! The `onceward` command.

mod call;
mod command;
mod demo;
mod exit;
mod log;
mod say;

use std::process::ExitCode;

use clap::Parser as _;

use crate::command::Command;
use crate::exit::Exit;

/// A request makes many small allocations. The C library's allocator took 15 to 18 % of the CPU of a proxied request,
/// this one takes 4 to 5 %.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = Command::parse();
    #[cfg(feature = "mutants")]
    if let Some(name) = std::env::var_os("MUTANT_OF_ONCEWARD") {
        let name = name.to_string_lossy();
        if !onceward::mutant::select(&name) {
            return Exit::Usage.report(&format!("there is no mutant `{name}`"));
        }
        say::complain(&format!("warning: this process is broken on purpose: {name}"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::CannotStart.report(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(command.run());
    // A name lookup or a read of a directory may still hang on a thread; nobody waits for it.
    runtime.shutdown_background();
    code
}
