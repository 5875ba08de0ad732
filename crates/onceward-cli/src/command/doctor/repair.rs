//! `onceward doctor --repair`: says what it would do and what that loses, and does it only when told so.

use std::io::{BufRead, IsTerminal as _, Write as _, stdin, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use onceward::SystemClock;
use onceward::embedded::{EmbeddedSettings, OpenError, Repair, repair};
use onceward_gateway::doctor::State;
use onceward_gateway::settings::Settings;

use super::gather;
use crate::exit::Exit;
use crate::say::say;
use onceward_gateway::settings::reasons;

/// Repairs the store of these settings; without `yes` only after a typed one.
pub(super) async fn run(settings: &Settings, yes: bool) -> ExitCode {
    let Ok(embedded) = EmbeddedSettings::from_url(settings.store.as_str()) else {
        return Exit::Usage
            .report("--repair: only an embedded store has files to repair; name it with --store");
    };
    match gather::outside(settings).state {
        State::New => {
            return Exit::Usage.report("--repair: there is no store yet; name the right one with --store");
        }
        State::InUse { holder } => {
            let says = "a store is repaired only while nobody uses it";
            return Exit::CannotStart
                .report(&format!("the store is in use by {holder}: stop it first; {says}"));
        }
        State::NotLooked { reason, remedy } => {
            return Exit::CannotStart.report(&format!("{reason}; {remedy}"));
        }
        State::Unknown
        | State::Memory
        | State::Closed
        | State::Serving
        | State::Down { .. }
        | State::Refused { .. } => {}
    }
    let embedded = EmbeddedSettings { lock_wait: Duration::ZERO, ..embedded };
    let plan = match work(&embedded, true).await {
        Ok(plan) => plan,
        Err(error) => return Exit::CannotStart.report(&reasons(&error)),
    };
    say(&plan.to_string());
    if plan.steps.is_empty() {
        return Exit::Done.code();
    }
    if !yes && !agreed(stdin().is_terminal() && stdout().is_terminal(), &mut stdin().lock()) {
        return Exit::No
            .report("nothing was done; keep a copy of the directory, then repeat this with --yes");
    }
    match work(&embedded, false).await {
        Ok(done) => {
            say(&done.to_string());
            Exit::Done.code()
        }
        Err(error) => Exit::CannotStart.report(&reasons(&error)),
    }
}

async fn work(embedded: &EmbeddedSettings, dry_run: bool) -> Result<Repair, OpenError> {
    let embedded = embedded.clone();
    let working = tokio::task::spawn_blocking(move || repair(&embedded, Arc::new(SystemClock), dry_run));
    working.await.expect("a repair does not panic")
}

/// Whether a person at a terminal typed `yes`. Nobody is asked elsewhere: a script says `--yes`.
fn agreed(is_terminal: bool, answers: &mut impl BufRead) -> bool {
    if !is_terminal {
        return false;
    }
    say("Do this? Type yes: ");
    let _ = stdout().flush();
    let mut answer = String::new();
    answers.read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

#[cfg(test)]
mod tests {
    use super::agreed;

    #[test]
    fn only_a_typed_yes_at_a_terminal_is_one() {
        for (answer, is_terminal, expected) in [
            ("yes\n", true, true),
            ("yes\n", false, false),
            ("y\n", true, false),
            ("no\n", true, false),
            ("\n", true, false),
            ("", true, false),
        ] {
            assert_eq!(agreed(is_terminal, &mut answer.as_bytes()), expected, "{answer:?}");
        }
    }
}
