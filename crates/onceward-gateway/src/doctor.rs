//! What an operator should know before it hurts: settings that do not fit the machine, the callers or each other.
//!
//! [`check`] is all of it, and pure: [`Facts`] in, findings out. The facts are gathered elsewhere: by a running
//! gateway of itself, or by the command when no gateway runs. [`look`] has what both need for that.
//!
//! ```
//! use onceward_gateway::doctor::{Facts, Level, check};
//! use onceward_gateway::settings::Settings;
//!
//! let settings = Settings::parse_toml(
//!     r#"
//!     upstream.urls = ["http://127.0.0.1:9000"]
//!     policy.retention = "24h"
//!     policy.retry_window = "72h"
//!     "#,
//! )?;
//! let findings = check(&Facts::of(settings));
//! let late = findings.iter().find(|it| it.check == "retention-vs-retries").expect("the check was made");
//! assert_eq!((late.level, late.setting.as_deref()), (Level::Warning, Some("policy.retention")));
//! # Ok::<(), onceward_gateway::settings::SettingsError>(())
//! ```

mod clock;
mod disk;
mod exposure;
mod facts;
mod files;
mod finding;
mod lease;
mod limits;
pub mod look;
mod policy;
mod retention;
mod store;
mod tls;
mod upstream;

#[cfg(test)]
mod tests;

pub use self::disk::{ANSWER_BYTES, TOMBSTONE_BYTES};
pub use self::facts::{
    Counts, Disk, Facts, Files, Process, Rate, Reached, State, StoreFacts, TlsFacts, TokenLife,
};
pub use self::files::{FileFault, check_files};
pub use self::finding::settings_refused;
pub use onceward_admin::{Finding, Findings, Level};

/// Everything that can be said about these facts, theme by theme. What was not looked at is not judged.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let rules: [fn(&Facts) -> Vec<Finding>; 11] = [
        finding::settings,
        store::check,
        clock::check,
        disk::check,
        retention::check,
        lease::check,
        policy::check,
        upstream::check,
        tls::check,
        exposure::check,
        limits::check,
    ];
    rules.iter().flat_map(|rule| rule(facts)).collect()
}
