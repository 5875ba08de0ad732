//! What holds when nothing is said.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Method;

use super::{
    AccessLog, Admin, Balance, Compare, Cors, HostRule, InFlight, KeyRule, KeySource, Limits, Log, Oversize,
    PathPattern, Policy, Principal, Protocol, Route, Settings, StoreUrl, Tls, Unresolved, Upstream,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            store: StoreUrl::default(),
            store_from: None,
            log: Log::Json,
            access_log: AccessLog::All,
            drain_delay: Duration::from_secs(5),
            drain: Duration::from_secs(25),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            tls: Tls::default(),
            admin: Admin::default(),
            upstream: Upstream::default(),
            limits: Limits::default(),
            cors: Cors::default(),
            policy: Policy::default(),
            routes: Vec::new(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            token_file: "admin.token".into(),
            ready_requires_store: false,
            hide_keys: false,
        }
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            balance: Balance::RoundRobin,
            protocol: Protocol::Auto,
            host: HostRule::Auto,
            ca_file: PathBuf::new(),
            trust_forwarded: false,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle: Duration::from_secs(4),
            trust_refused_stream: false,
            in_flight: 1024,
            eject_after: 5,
            eject: Duration::from_secs(10),
            eject_max: Duration::from_secs(300),
            check: String::new(),
            check_every: Duration::from_secs(5),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            requests: 10_000,
            keys_in_flight: 1000,
            header_count: 100,
            header_bytes: 64 << 10,
            streams: 100,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            key: KeyRule::Optional,
            key_from: KeySource::IdempotencyKey,
            compare: Compare::Request,
            verify: None,
            verify_secret_file: PathBuf::new(),
            verify_tolerance: Duration::from_secs(300),
            in_flight: InFlight::Reject,
            unresolved: Unresolved::Hold,
            retention: DAY,
            tombstone: 7 * DAY,
            lease: Duration::from_secs(30),
            run_max: Duration::from_secs(10 * 60),
            max_request: 1 << 20,
            max_answer: 1 << 20,
            principal: Principal::Auto,
            release_on: [401, 403, 407, 425, 429].into(),
            unknown_on: [408, 502, 503, 504].into(),
            oversize: Oversize::Pass,
            fail_open: false,
            replay_drop: BTreeSet::new(),
            retry_window: Duration::ZERO,
        }
    }
}

impl Route {
    /// A route that says nothing yet: the methods that are operations by default, on every path.
    pub(super) fn under(policy: Policy) -> Self {
        Self {
            name: String::new(),
            methods: vec![Method::POST, Method::PATCH],
            path: PathPattern::parse("/**").expect("the pattern for every path is valid"),
            fresh_connection: false,
            policy,
        }
    }
}
