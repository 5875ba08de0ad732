//! Whether what a consumer remembers outlasts what its broker delivers again.

use std::time::Duration;

use onceward::Policy;
use onceward::queue::source::Source;
use onceward::queue::{ConsumerSettings, Kept, Level, Misfit, Retries};
use onceward_gateway::settings::reasons;

use super::duration;
use crate::command::queue::Failed;
use crate::exit::Exit;
use crate::say::say;

/// How long a broker may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// For how long a message is tried and remembered.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Patience {
    /// How often a message is tried until it is put among the dead letters
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    attempts: u32,
    /// The pause after the first failure; it doubles with each, up to 5 minutes
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pause: Duration,
    /// How long the handler may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// How long a message stays claimed after a crash; it comes again once the broker delivers it again and this is over
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    lease: Duration,
    /// How long it is remembered that a message was done: longer than it can come again
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    retention: Duration,
}

impl Patience {
    /// The policy that claims have.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            lease: self.lease,
            retention: self.retention,
            // The handler is given up before its lease is.
            run_max: self.timeout.saturating_add(self.lease.max(Duration::from_secs(60))),
            ..ConsumerSettings::default().policy
        }
    }

    pub(crate) fn retries(&self) -> Retries {
        Retries { attempts_max: self.attempts, pause: self.pause, ..ConsumerSettings::default().retries }
    }
}

/// What a broker said, beside what a consumer does.
#[derive(Debug)]
pub(crate) struct Fit {
    pub(crate) kept: Option<Kept>,
    pub(crate) misfits: Vec<Misfit>,
}

impl Fit {
    /// What is said where nothing is wrong.
    pub(crate) fn fine(&self) -> &'static str {
        match self.kept {
            Some(_) => "what was done is remembered for longer than it can come again",
            None => "the broker does not say for how long messages can come again",
        }
    }
}

/// Asks the broker, and makes nothing there.
///
/// # Errors
/// Why it does not answer, in words.
pub(crate) async fn fit(source: &dyn Source, patience: &Patience) -> Result<Fit, String> {
    let asked = tokio::time::timeout(ANSWER_MAX, source.windows()).await;
    let windows = asked
        .map_err(|_| format!("the broker does not answer within {} s", ANSWER_MAX.as_secs()))?
        .map_err(|it| reasons(&it))?;
    let misfits = windows.misfits(&patience.policy(), &patience.retries());
    Ok(Fit { kept: windows.kept, misfits })
}

/// Says what does not fit.
pub(super) async fn check(source: &dyn Source, patience: &Patience) -> Result<(), Failed> {
    let fit = fit(source, patience).await.map_err(|why| (Exit::CannotStart, format!("--from: {why}")))?;
    for it in &fit.misfits {
        let level = if it.level == Level::Error { "error" } else { "warning" };
        say(&format!("{level}: {it}\n"));
    }
    if fit.misfits.iter().any(|it| it.level == Level::Error) {
        return Err((
            Exit::No,
            "a consumer does not start like this without --allow-short-windows".to_owned(),
        ));
    }
    if fit.misfits.is_empty() {
        say(&format!("ok: {}\n", fit.fine()));
    }
    Ok(())
}
