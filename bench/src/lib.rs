//! Measures and attacks the real gateway process from outside: nothing of Onceward is linked in.
//!
//! Four commands stand on this library; `docs/benchmarks.md` says how to run them and how to read them.
//! - `isolation`: does one bad neighbour make other callers slower?
//! - `hostile`: do honest callers notice an attack, and does the gateway come back to what it was?
//! - `big`: does memory stay flat while long bodies stream through?
//! - `gateway`: how fast is it, beside nginx and beside the bare API?

pub mod args;
pub mod caller;
pub mod cell;
pub mod client;
pub mod cpu;
pub mod disturb;
pub mod gateway;
pub mod hostile;
pub mod latency;
pub mod load;
pub mod machine;
pub mod measure;
pub mod nginx;
pub mod page;
pub mod report;
pub mod upstream;
pub mod usage;

use tokio::signal::unix::{SignalKind, signal};

/// Why a tool could not go on. Tools end with it, so a text is enough.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// What most functions here give.
pub type Result<T> = std::result::Result<T, Trouble>;

/// What `run` gives, unless this process is told to end before: that drops the processes that it started, and their
/// folders.
///
/// # Errors
/// Those of `run`; when SIGTERM or SIGINT has come, or cannot be listened for.
pub async fn until_told_to_end(run: impl Future<Output = Result<bool>>) -> Result<bool> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        ended = run => ended,
        _ = term.recv() => Err("told to end".into()),
        _ = int.recv() => Err("told to end".into()),
    }
}

/// The exit code of a command: 0 when all held, 1 when something did not, or the tool itself could not go on, which
/// it says.
pub fn conclude(name: &str, ended: Result<bool>) -> std::process::ExitCode {
    match ended {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
