//! Settings as the layer and the proxy understand them.

use std::convert::Infallible;
use std::path::PathBuf;

use http::HeaderName;
use onceward_http::{CorsPolicy, HttpPolicy, PrincipalRule, Route, Routes};
use onceward_webhook::{Secrets, Verifier};

use crate::listen::Limits;
use crate::settings::{self, HostRule, Policy, Principal, Settings};
use crate::upstream::{Balance, HostMode, Protocol, UpstreamSettings};

/// A file of secrets that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("verify_secret_file {}: {says}", file.display())]
pub struct SecretFileError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub says: String,
}

/// The routes of the layer. Reads the files of secrets.
///
/// # Errors
/// One of them cannot be used.
pub(crate) fn routes(settings: &Settings) -> Result<Routes, SecretFileError> {
    with(settings, verifier)
}

/// The same without what verifies signatures. Reads nothing.
pub(crate) fn unverified(settings: &Settings) -> Routes {
    let none = |_: &Policy| Ok::<_, Infallible>(None);
    with(settings, none).unwrap_or_else(|never| match never {})
}

fn with<E>(
    settings: &Settings,
    verifier: impl Fn(&Policy) -> Result<Option<Verifier>, E>,
) -> Result<Routes, E> {
    let policy = |it: &Policy| Ok(HttpPolicy { verify: verifier(it)?, ..policy(it) });
    let routes = settings.routes.iter().map(|it| {
        Ok(Route {
            name: it.name.clone(),
            methods: it.methods.clone(),
            path: it.path.clone(),
            policy: policy(&it.policy)?,
            fresh_connection: it.fresh_connection,
        })
    });
    Ok(Routes::new(routes.collect::<Result<_, E>>()?, policy(&settings.policy)?))
}

/// What verifies the operations of a policy.
///
/// # Errors
/// Its file of secrets cannot be used.
pub(crate) fn verifier(it: &Policy) -> Result<Option<Verifier>, SecretFileError> {
    let Some(scheme) = &it.verify else { return Ok(None) };
    let wrong = |says: String| SecretFileError { file: it.verify_secret_file.clone(), says };
    let text = std::fs::read_to_string(&it.verify_secret_file)
        .map_err(|error| wrong(format!("{error}; let the user of the gateway read it")))?;
    let secrets = Secrets::parse(scheme, &text).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(Verifier::new(scheme.clone(), secrets).tolerance(it.verify_tolerance)))
}

fn policy(it: &Policy) -> HttpPolicy {
    HttpPolicy {
        key: it.key,
        key_from: it.key_from.clone(),
        compare: it.compare,
        verify: None,
        policy: onceward_core::Policy {
            lease: it.lease,
            run_max: it.run_max,
            retention: it.retention,
            tombstone: it.tombstone,
            unresolved: it.unresolved,
        },
        in_flight: it.in_flight,
        principal: principal(&it.principal),
        max_request_bytes: it.max_request,
        max_answer_bytes: it.max_answer,
        release_on: it.release_on.iter().copied().collect(),
        unknown_on: it.unknown_on.iter().copied().collect(),
        oversize: it.oversize,
        fail_open: it.fail_open,
        replay_drop: it
            .replay_drop
            .iter()
            .map(|it| HeaderName::from_bytes(it.as_bytes()).expect("settings hold only valid header names"))
            .collect(),
    }
}

fn principal(it: &Principal) -> PrincipalRule {
    match it {
        Principal::Auto => PrincipalRule::Auto,
        Principal::Header(name) => PrincipalRule::Header(
            HeaderName::from_bytes(name.as_bytes()).expect("settings hold only valid header names"),
        ),
        Principal::Cookie(name) => PrincipalRule::Cookie(name.clone()),
        Principal::None => PrincipalRule::None,
    }
}

/// The upstreams.
pub(crate) fn upstream(settings: &Settings) -> UpstreamSettings {
    let it = &settings.upstream;
    UpstreamSettings {
        balance: match it.balance {
            settings::Balance::RoundRobin => Balance::RoundRobin,
            settings::Balance::LeastBusy => Balance::LeastBusy,
            settings::Balance::KeyHash => Balance::KeyHash,
        },
        protocol: match it.protocol {
            settings::Protocol::Auto => Protocol::Auto,
            settings::Protocol::Http1 => Protocol::Http1,
            settings::Protocol::H2 => Protocol::H2,
            settings::Protocol::H2c => Protocol::H2c,
        },
        host: match it.host {
            HostRule::Auto => None,
            HostRule::Preserve => Some(HostMode::Preserve),
            HostRule::Upstream => Some(HostMode::Upstream),
        },
        ca_file: Some(it.ca_file.clone()).filter(|it| !it.as_os_str().is_empty()),
        connect_timeout: it.connect_timeout,
        response_timeout: it.response_timeout,
        body_idle_timeout: it.response_timeout,
        idle_max: it.idle,
        trust_refused_stream: it.trust_refused_stream,
        in_flight_max: count(it.in_flight),
        eject_after: it.eject_after,
        eject: it.eject,
        eject_max: it.eject_max,
        check: Some(it.check.clone()).filter(|it| !it.is_empty()),
        check_every: it.check_every,
        trust_forwarded: it.trust_forwarded,
        ..UpstreamSettings::several(it.urls.clone())
    }
}

/// The bounds of the listener.
pub(crate) fn limits(settings: &Settings) -> Limits {
    let it = &settings.limits;
    Limits {
        connections_max: count(it.connections),
        requests_max: count(it.requests),
        headers_max: count(it.header_count),
        head_bytes_max: usize::try_from(it.header_bytes).unwrap_or(usize::MAX),
        header_timeout: settings.header_timeout,
        idle_timeout: settings.idle_timeout,
        body_timeout: it.body_timeout,
        write_timeout: it.write_timeout,
        streams_max: it.streams,
        ..Limits::default()
    }
}

/// Which web pages may read our own answers; `None` when that is none of our business.
pub(crate) fn cors(settings: &Settings) -> Option<CorsPolicy> {
    let it = &settings.cors;
    let policy = || CorsPolicy::new(it.origins.iter().cloned(), it.credentials);
    (!it.origins.is_empty()).then(|| policy().expect("settings hold only origins that the layer accepts"))
}

/// How many operations of one principal may be in flight; 0 is no limit for both.
pub(crate) fn keys_in_flight(settings: &Settings) -> usize {
    count(settings.limits.keys_in_flight)
}

fn count(it: u32) -> usize {
    usize::try_from(it).unwrap_or(usize::MAX)
}
