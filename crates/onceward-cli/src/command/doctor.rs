//! `onceward doctor`: what does not fit, before it hurts.

mod brokers;
mod gather;
mod print;
mod repair;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::Method;
use onceward::LateStore;
use onceward_gateway::StoreLook;
use onceward_gateway::doctor::{self, Facts, Finding, Findings, Level, Rate, State};
use onceward_gateway::settings::{Place, Problem, Settings, SettingsError, reasons};

use self::brokers::Brokers;
use crate::command::admin::{Admin, Failed};
use crate::command::source::Source;
use crate::exit::Exit;
use crate::say::say;

/// Check settings, store and machine, and say what to do about what does not fit
///
/// When a gateway uses the store, that gateway is asked; otherwise everything is looked at from here. With --from, the
/// brokers of consumers are asked for how long they deliver again. No record is changed. Exit code 1 when something does not do what it is there for, 0 otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// The file with the token of a running gateway [default: the variable ONCEWARD_ADMIN_TOKEN, else the
    /// admin.token_file of the settings]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Connect to no upstream and to no broker
    #[arg(long)]
    offline: bool,
    /// How many operations run, to project the disk: 50/s, 3000/m, 100000/h or 2000000/d
    #[arg(long, value_name = "N/UNIT", value_parser = rate)]
    rate: Option<Rate>,
    /// Exit code 1 for warnings, too
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say how a damaged store can be repaired and what that loses, and do it after a typed yes
    #[arg(long, conflicts_with_all = ["json", "strict", "rate"])]
    repair: bool,
    /// With --repair: do it without asking
    #[arg(long, requires = "repair")]
    yes: bool,
    #[command(flatten)]
    brokers: Brokers,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    if args.repair {
        return match read(&args) {
            Ok(Read { settings, wrong, .. }) if wrong.is_empty() => repair::run(&settings, args.yes).await,
            Ok(Read { wrong, .. }) => Exit::Usage.report(&reasons(&SettingsError::Refused(wrong))),
            Err((exit, reason)) => exit.report(&reason),
        };
    }
    match look(&args).await {
        Ok(findings) => {
            say(&if args.json { print::json(&findings) } else { print::table(&findings) });
            let bearable = if args.strict { Level::Notice } else { Level::Warning };
            if findings.worst() > bearable { Exit::No.code() } else { Exit::Done.code() }
        }
        Err((exit, reason)) => exit.report(&reason),
    }
}

async fn look(args: &Args) -> Result<Findings, Failed> {
    let brokers = if args.offline { Vec::new() } else { args.brokers.findings().await? };
    let own = own(args).await?;
    Ok(Findings { findings: own.into_iter().chain(brokers).collect() })
}

/// What is to be said of settings, store and machine.
async fn own(args: &Args) -> Result<Vec<Finding>, Failed> {
    let Read { settings, wrong, missing, warnings } = read(args)?;
    if !wrong.is_empty() {
        return Ok(doctor::settings_refused(&wrong));
    }
    let store = gather::store(&settings).await;
    if let State::InUse { holder } = &store.state {
        return match ask(args, &settings, holder).await {
            // A consumer that has the store cannot be asked.
            Err((_, why)) if args.brokers.is_any() => Ok(vec![not_asked(why)]),
            asked => asked,
        };
    }
    let mut facts = Facts { warnings, store, rate: args.rate.clone(), ..Facts::of(settings) };
    gather::machine(&mut facts);
    if !args.offline {
        facts.upstreams = Some(doctor::look::upstreams(&facts.settings).await);
    }
    let mut missing = doctor::settings_refused(&missing);
    if args.brokers.is_any() {
        // Where consumers run, there need not be a gateway.
        missing.iter_mut().for_each(|it| it.level = Level::Notice);
    }
    Ok(missing.into_iter().chain(doctor::check(&facts)).collect())
}

fn not_asked(why: String) -> Finding {
    Finding {
        level: Level::Warning,
        check: "gateway-asked".into(),
        setting: None,
        says: why,
        remedy: Some("stop what has the store, to have settings, store and machine looked at, too".into()),
    }
}

/// What a gateway of this process can say of its store, when doctor asks it.
pub(crate) fn store_look(settings: &Settings, store: &Arc<LateStore>) -> StoreLook {
    // Whoever looks must not keep a store open that is being closed.
    let (settings, store) = (settings.clone(), Arc::downgrade(store));
    StoreLook::new(move || {
        let (settings, store) = (settings.clone(), store.upgrade());
        async move { gather::inside(&settings, store).await }
    })
}

/// What the flags, the environment and the file say.
struct Read {
    settings: Settings,
    /// What is wrong. The settings are not those that were meant.
    wrong: Vec<Problem>,
    /// That no upstream is named: the rest can be looked at all the same.
    missing: Vec<Problem>,
    warnings: Vec<String>,
}

fn read(args: &Args) -> Result<Read, Failed> {
    let looked = args.source.look(None).map_err(|error| (Exit::Usage, reasons(&error)))?;
    let typed: Vec<_> = looked.problems.iter().filter(|it| matches!(it.place, Place::Flag(_))).collect();
    if let Some(first) = typed.first() {
        return Err((Exit::Usage, first.to_string()));
    }
    // Whoever gave the upstream as a flag to the gateway need not repeat it to have the rest checked.
    let (missing, wrong): (Vec<_>, Vec<_>) = looked.problems.into_iter().partition(is_missing_upstream);
    let (settings, warnings) = (looked.settings, looked.warnings);
    if let Err(error) = onceward::check(settings.store.as_str()) {
        return Err((Exit::Usage, format!("store: {}", reasons(&error))));
    }
    Ok(Read { settings, wrong, missing, warnings })
}

/// Asks the gateway that has the store, which knows more than we could see.
async fn ask(args: &Args, settings: &Settings, holder: &str) -> Result<Vec<Finding>, Failed> {
    let admin = Admin { url: admin_url(settings), token_file: token_file(args, settings), json: args.json };
    let reply = admin.ask(Method::GET, "/doctor", None, None).await.map_err(|(exit, reason)| {
        let exit = if exit == Exit::No { Exit::Admin } else { exit };
        (
            exit,
            format!(
                "the store is in use by {holder}, and asking the gateway at {} failed: {reason}",
                admin.url
            ),
        )
    })?;
    let told: Findings = serde_json::from_slice(&reply.body)
        .map_err(|_| (Exit::Admin, format!("the answer of {} is not one of this version", admin.url)))?;
    let asked = Finding {
        level: Level::Ok,
        check: "gateway-asked".into(),
        setting: None,
        says: format!("the store is in use by {holder}; the gateway at {} was asked", admin.url),
        remedy: None,
    };
    Ok([asked].into_iter().chain(told.findings).collect())
}

/// Where this machine reaches the admin listener.
fn admin_url(settings: &Settings) -> String {
    let mut address = settings.admin.listen;
    if address.ip().is_unspecified() {
        let ip = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(ip);
    }
    format!("http://{address}")
}

/// The file that was named, else none where the variable is to be taken, else the gateway's own.
fn token_file(args: &Args, settings: &Settings) -> Option<PathBuf> {
    let is_given = std::env::var_os("ONCEWARD_ADMIN_TOKEN").is_some();
    if args.token_file.is_some() || is_given {
        return args.token_file.clone();
    }
    let directory = onceward::directory(settings.store.as_str()).unwrap_or_default();
    Some(directory.join(&settings.admin.token_file))
}

fn is_missing_upstream(it: &Problem) -> bool {
    it.key == "upstream.urls" && it.place == Place::Default
}

/// `50/s`, `3000/m`, `100000/h`, `2000000/d`.
fn rate(text: &str) -> Result<Rate, String> {
    let accepted = "write it as 50/s, 3000/m, 100000/h or 2000000/d";
    let (number, unit) = text.split_once('/').ok_or(accepted)?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(accepted.into()),
    };
    let number: u32 = number.parse().map_err(|_| accepted)?;
    Ok(Rate { per_second: f64::from(number) / seconds, from: "as --rate says".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, expected) in
            [("50/s", Some(50.0)), ("120/m", Some(2.0)), ("36/h", Some(0.01)), ("86400/d", Some(1.0))]
        {
            assert_eq!(rate(text).ok().map(|it| it.per_second), expected, "{text}");
        }
        for text in ["", "50", "50/", "50/w", "-1/s", "1.5/s", "/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_admin_listener_is_reached_where_it_listens_on_every_address() {
        let url = |listen: &str| {
            let mut settings = Settings::default();
            settings.admin.listen = listen.parse().unwrap();
            admin_url(&settings)
        };
        assert_eq!(url("0.0.0.0:8081"), "http://127.0.0.1:8081");
        assert_eq!(url("[::]:8081"), "http://[::1]:8081");
        assert_eq!(url("10.0.0.7:8081"), "http://10.0.0.7:8081");
    }
}
