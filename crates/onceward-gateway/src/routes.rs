//! Settings as the layer and the proxy understand them.

use http::HeaderName;
use onceward_http::{HttpPolicy, PrincipalRule, Route, Routes};

use crate::settings::{self, HostRule, Policy, Principal, Settings};
use crate::upstream::{HostMode, Protocol, UpstreamSettings};

/// The routes of the layer.
pub(crate) fn routes(settings: &Settings) -> Routes {
    let routes = settings.routes.iter().map(|it| Route {
        name: it.name.clone(),
        methods: it.methods.clone(),
        path: it.path.clone(),
        policy: policy(&it.policy),
        fresh_connection: it.fresh_connection,
    });
    Routes::new(routes.collect(), policy(&settings.policy))
}

fn policy(it: &Policy) -> HttpPolicy {
    HttpPolicy {
        key: it.key,
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
        replay_drop: Vec::new(),
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
        protocol: match it.protocol {
            settings::Protocol::Http1 => Protocol::Http1,
            settings::Protocol::H2c => Protocol::H2c,
        },
        host: Some(match it.host {
            HostRule::Preserve => HostMode::Preserve,
            HostRule::Upstream => HostMode::Upstream,
        }),
        connect_timeout: it.connect_timeout,
        response_timeout: it.response_timeout,
        body_idle_timeout: it.response_timeout,
        idle_max: it.idle,
        ..UpstreamSettings::several(it.urls.clone())
    }
}
