//! Takes up changed settings while the gateway runs: all of them or none.
//!
//! 1. The settings are read again from their places. Any mistake in them changes nothing.
//! 2. What is only read at the start must be the same, and so must whom a key belongs to.
//! 3. Files that the settings name are loaded. One that cannot be used changes nothing.
//! 4. Routes, upstreams, TLS and CORS are taken up for what comes from then on. What runs goes on as it
//!    began, and records keep the policy they were made with.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use onceward_admin::{Metrics, Refusal, ReloadRefused, ReloadResult, Reloaded};
use onceward_http::{IdempotencyLayer, identity_changes};

use crate::listen::{ReloadableTls, Tls};
use crate::routes;
use crate::settings::{Read, Settings, SettingsError, reasons};
use crate::upstream::Upstream;
use crate::watch::Watch;

/// Where settings are read again from.
#[derive(Clone)]
pub struct SettingsSource(Arc<dyn Fn() -> Result<Read, SettingsError> + Send + Sync>);

impl SettingsSource {
    /// Reads by calling `read`, which should look where the settings at the start came from.
    #[must_use]
    pub fn new(read: impl Fn() -> Result<Read, SettingsError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for SettingsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SettingsSource")
    }
}

/// The parts of a running gateway that follow its settings.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) settings: Mutex<Settings>,
    pub(crate) source: Option<SettingsSource>,
    pub(crate) layer: Arc<IdempotencyLayer>,
    pub(crate) proxy: Upstream,
    pub(crate) tls: Option<ReloadableTls>,
    pub(crate) metrics: Metrics,
    pub(crate) watch: Arc<Watch>,
}

impl Live {
    /// The settings in force.
    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long stopping may take: still accepting, and then finishing.
    pub(crate) fn drain(&self) -> (Duration, Duration) {
        let settings = self.settings();
        (settings.drain_delay, settings.drain)
    }

    /// Reads the settings again and takes them up. One reload runs at a time, and it runs to its end.
    ///
    /// # Errors
    /// Every reason at once; nothing has changed then.
    pub(crate) fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        let source = self.source.as_ref().ok_or(ReloadRefused::NoFile)?;
        let mut settings = self.settings();
        let told = self.take_up(source, &mut settings);
        drop(settings);
        match &told {
            Ok(reloaded) => {
                self.metrics.reloaded(ReloadResult::Done);
                for warning in &reloaded.warnings {
                    tracing::warn!("{warning}");
                }
                tracing::info!(changed = reloaded.changed.join(" "), "the settings were read again");
            }
            Err(refusals) => {
                self.metrics.reloaded(ReloadResult::Refused);
                for it in refusals {
                    let (setting, says) = (it.setting.as_deref(), it.says.as_str());
                    tracing::error!(setting, says, "the settings were not taken up; the old ones stay");
                }
            }
        }
        told.map_err(ReloadRefused::Refused)
    }

    fn take_up(&self, source: &SettingsSource, settings: &mut Settings) -> Result<Reloaded, Vec<Refusal>> {
        let Read { settings: new, mut warnings } = (source.0)().map_err(|error| refused(&error))?;
        let changes = settings.changes(&new);
        let mut refusals: Vec<_> = changes.needs_restart.iter().map(|it| needs_restart(it, "")).collect();
        refusals.extend(
            identity_changes(&routes::unverified(settings), &routes::unverified(&new))
                .iter()
                .map(|it| needs_restart(it.setting, &format!("{it}; keys would not be known again. "))),
        );
        let routes = routes::routes(&new);
        if let Err(error) = &routes {
            refusals.push(Refusal { setting: Some("verify_secret_file".into()), says: error.to_string() });
        }
        let tls = self.load_tls(&new, &mut refusals);
        let routes = match routes {
            Ok(routes) if refusals.is_empty() => routes,
            Ok(_) | Err(_) => return Err(refusals),
        };
        // The last that may fail, and the first that changes anything.
        self.proxy.replace(routes::upstream(&new)).map_err(|error| {
            let setting = Some(format!("upstream.{}", error.field()));
            vec![Refusal { setting, says: error.remedy().to_owned() }]
        })?;
        self.metrics.allow_routes(new.routes.iter().map(|it| it.name.clone()));
        self.watch.keep_only(&self.proxy);
        self.layer.set_routes(routes);
        self.layer.set_cors(routes::cors(&new));
        self.layer.set_store_patience(new.upstream.response_timeout);
        if let (Some(live), Some(tls)) = (&self.tls, tls) {
            warnings.extend(show_certificate(&tls, &self.metrics));
            live.replace(tls);
        }
        *settings = new;
        Ok(Reloaded { changed: changes.changed, warnings })
    }

    fn load_tls(&self, new: &Settings, refusals: &mut Vec<Refusal>) -> Option<Tls> {
        if self.tls.is_none() || !new.tls.is_on() {
            return None;
        }
        match Tls::load(&new.tls.cert, &new.tls.key) {
            Ok(tls) => Some(tls),
            Err(error) => {
                refusals.push(Refusal { setting: Some("tls".into()), says: reasons(&error) });
                None
            }
        }
    }
}

/// Shows when the certificate ends and says what is wrong with it.
pub(crate) fn show_certificate(tls: &Tls, metrics: &Metrics) -> Option<String> {
    let since_1970 = tls.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics.tls_certificate_ends(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX));
    #[expect(clippy::disallowed_methods, reason = "certificates end by the calendar, and nothing else does")]
    tls.warning(SystemTime::now()).map(|it| format!("tls.cert: {it}"))
}

fn needs_restart(setting: &str, why: &str) -> Refusal {
    let says = format!("{why}This is only read at the start: it needs a restart. Nothing was changed.");
    Refusal { setting: Some(setting.to_owned()), says }
}

fn refused(error: &SettingsError) -> Vec<Refusal> {
    let by_key = |problem: &crate::settings::Problem| Refusal {
        setting: Some(problem.key.clone()).filter(|it| !it.is_empty()),
        says: problem.to_string(),
    };
    match error {
        SettingsError::Refused(problems) => problems.iter().map(by_key).collect(),
        other => vec![Refusal { setting: None, says: reasons(other) }],
    }
}
