//! Whether brokers deliver a message again for longer than a consumer remembers it.

use futures_util::future::join_all;
use onceward::queue::Level as Bad;
use onceward_gateway::doctor::{Finding, Level};
use onceward_gateway::settings::reasons;

use crate::command::admin::Failed;
use crate::command::consume::windows::{Fit, Patience, fit};
use crate::exit::Exit;

/// The brokers of consumers.
#[derive(Debug, clap::Args)]
pub(super) struct Brokers {
    /// Ask the broker of a consumer, too, named as `onceward consume --from` names it. May be given several times
    #[arg(long, value_name = "URL", env = "ONCEWARD_FROM", hide_env_values = true)]
    from: Vec<String>,
    #[command(flatten, next_help_heading = "The consumers of --from, started with")]
    patience: Patience,
}

impl Brokers {
    pub(super) fn is_any(&self) -> bool {
        !self.from.is_empty()
    }

    /// What is to be said of each, in their order. They are asked at the same time; nothing is made there, and nothing is read.
    ///
    /// # Errors
    /// A URL is none.
    pub(super) async fn findings(&self) -> Result<Vec<Finding>, Failed> {
        let open = |url: &String| {
            let source = onceward::queue::source::open::open(url, "doctor");
            let source = source.map_err(|it| (Exit::Usage, format!("--from: {}", reasons(&it))))?;
            Ok((place(url), source))
        };
        let sources = self.from.iter().map(open).collect::<Result<Vec<_>, Failed>>()?;
        let asked = sources.iter().map(async |(place, source)| {
            let told = fit(&**source, &self.patience).await;
            source.close().await;
            judged(place, told)
        });
        Ok(join_all(asked).await.into_iter().flatten().collect())
    }
}

fn judged(place: &str, told: Result<Fit, String>) -> Vec<Finding> {
    let finding = |level, about: &str, says: &str, remedy: Option<String>| Finding {
        level,
        check: format!("broker-{about}"),
        setting: None,
        says: format!("{place}: {says}"),
        remedy,
    };
    match told {
        Err(why) => {
            let remedy = "start it, correct the URL, or let this user ask it".to_owned();
            vec![finding(Level::Error, "reachable", &why, Some(remedy))]
        }
        Ok(fit) if fit.misfits.is_empty() => vec![finding(Level::Ok, "memory", fit.fine(), None)],
        Ok(fit) => {
            let level = |bad| match bad {
                Bad::Error => Level::Error,
                Bad::Warning => Level::Warning,
            };
            let misfits = fit.misfits.into_iter();
            misfits.map(|it| finding(level(it.level), it.about, &it.says, Some(it.remedy))).collect()
        }
    }
}

/// The URL without user, password and parameters.
fn place(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use onceward::queue::{Kept, Retries, Windows};
    use onceward::{Policy, Unresolved};

    use super::*;

    #[test]
    fn what_does_not_fit_is_a_finding_of_its_level_with_a_remedy() {
        let days = |it: u64| Duration::from_secs(it * 24 * 3600);
        let judge = |windows: Windows| {
            let policy = Policy { retention: days(7), unresolved: Unresolved::Hold, ..Policy::default() };
            let misfits = windows.misfits(&policy, &Retries::default());
            let found = judged("kafka://h/orders", Ok(Fit { kept: windows.kept, misfits }));
            found.into_iter().map(|it| (it.level, it.check, it.remedy.is_some())).collect::<Vec<_>>()
        };
        let kept = |it| Windows { kept: Some(it), ..Windows::default() };
        for (windows, level, check) in [
            (Windows::default(), Level::Ok, "broker-memory"),
            (kept(Kept::For(days(14))), Level::Ok, "broker-memory"),
            (kept(Kept::For(days(15))), Level::Error, "broker-memory"),
            (
                Windows { dead_letters_kept: Some(Kept::For(days(14))), ..kept(Kept::For(days(4))) },
                Level::Error,
                "broker-memory",
            ),
            (kept(Kept::WithoutEnd), Level::Warning, "broker-memory"),
            (kept(Kept::For(Duration::from_secs(60))), Level::Error, "broker-attempts"),
            (Windows { deliveries_max: Some(3), ..Windows::default() }, Level::Warning, "broker-deliveries"),
            (
                Windows { held_max: Some(Duration::from_secs(1)), ..Windows::default() },
                Level::Error,
                "broker-handler",
            ),
        ] {
            assert_eq!(judge(windows), [(level, check.to_owned(), level != Level::Ok)], "{windows:?}");
        }
        let [away] = &judged("kafka://h/orders", Err("connection refused".into()))[..] else { panic!() };
        assert_eq!((away.level, &*away.check), (Level::Error, "broker-reachable"));
        assert_eq!(away.says, "kafka://h/orders: connection refused");
    }

    #[test]
    fn a_broker_is_named_without_its_password() {
        for (url, expected) in [
            ("nats://me:hunter2@h:4222/orders?durable=x", "nats://h:4222/orders"),
            ("redis-streams://:hunter2@a:1,b:2/orders", "redis-streams://a:1,b:2/orders"),
            ("amqp://u:p%40hunter2@h/?queue=orders", "amqp://h/"),
            ("kafka://h?sasl.password=hunter2", "kafka://h"),
        ] {
            assert_eq!(place(url), expected);
        }
    }
}
