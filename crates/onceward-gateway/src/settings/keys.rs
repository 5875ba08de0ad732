//! The table of keys: what there is, what each accepts, and how it is read and shown. Everything else (the
//! merge, the unknown-key help, the print-out, the names of variables) goes by this table, so a key that is
//! added here is added everywhere.

use std::time::Duration;

use super::kinds::Setting;
use super::value::{Bad, Value};
use super::{Admin, Cors, Limits, Policy, Route, Settings, Tls, Upstream};

/// One key of a table.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    /// What it accepts, as half a sentence.
    pub(super) accepts: &'static str,
    /// An accepted value as TOML.
    pub(super) example: &'static str,
    set: fn(&mut T, &Value) -> Result<(), Bad>,
    pub(super) show: fn(&T) -> String,
}

/// Why a key refused a value.
pub(super) struct Refusal {
    pub(super) accepts: &'static str,
    pub(super) example: &'static str,
    pub(super) bad: Bad,
}

/// The tables that the file may have, in the order of the print-out.
pub(super) const TABLES: &[&str] = &["tls", "admin", "upstream", "limits", "cors", "policy"];

/// `table NAME of TYPE { field: what it accepts, an example [, a bound]; … }`
macro_rules! keys {
    ($($table:ident of $owner:ty {
        $($field:ident: $accepts:literal, $example:literal $(, $bound:expr)?;)+
    })+) => {$(
        pub(super) static $table: &[Key<$owner>] = &[$(Key {
            name: stringify!($field),
            accepts: $accepts,
            example: $example,
            set: |owner, value| assign(&mut owner.$field, value, keys!(@bound $($bound)?)),
            show: |owner| owner.$field.show(),
        }),+];
    )+};
    (@bound) => { |_| true };
    (@bound $bound:expr) => { $bound };
}

keys! {
    TOP of Settings {
        listen: "an IP address and a port", r#""127.0.0.1:8080""#;
        store: "a store URL", r#""embedded:./onceward-data""#;
        store_from: "a store URL, or empty for none", r#""embedded:./onceward-data""#;
        log: "json or human", r#""json""#;
        access_log: "all, duplicates or none", r#""duplicates""#;
        drain_delay: "a duration with a unit, or 0", r#""5s""#;
        drain: "a duration with a unit, or 0", r#""25s""#;
        header_timeout: "a duration with a unit, more than 0", r#""10s""#, more_than_zero;
        idle_timeout: "a duration with a unit, more than 0", r#""75s""#, more_than_zero;
    }
    TLS of Tls {
        cert: "the path of a PEM file, or empty for none", r#""/etc/onceward/tls.crt""#;
        key: "the path of a PEM file, or empty for none", r#""/etc/onceward/tls.key""#;
    }
    ADMIN of Admin {
        listen: "an IP address and a port", r#""127.0.0.1:8081""#;
        token_file: "the path of a file", r#""admin.token""#, |it| !it.as_os_str().is_empty();
        ready_requires_store: "true or false", "true";
        hide_keys: "true or false", "true";
    }
    UPSTREAM of Upstream {
        urls: "a list of URLs http[s]://HOST[:PORT][/PATH]", r#"["http://127.0.0.1:9000"]"#;
        balance: "round-robin, least-busy or key-hash", r#""least-busy""#;
        protocol: "auto, http1, h2 or h2c", r#""http1""#;
        host: "auto, preserve or upstream", r#""preserve""#;
        ca_file: "the path of a PEM file, or empty for the system's roots", r#""/etc/onceward/ca.crt""#;
        trust_forwarded: "true or false", "true";
        connect_timeout: "a duration with a unit, more than 0", r#""5s""#, more_than_zero;
        response_timeout: "a duration with a unit, more than 0", r#""60s""#, more_than_zero;
        idle: "a duration with a unit, or 0", r#""4s""#;
        trust_refused_stream: "true or false", "true";
        in_flight: "a whole number, 0 for no limit", "1024";
        eject_after: "a whole number, 0 for never", "5";
        eject: "a duration with a unit, more than 0", r#""10s""#, more_than_zero;
        eject_max: "a duration with a unit, more than 0", r#""5m""#, more_than_zero;
        check: "a path that begins with /, or empty for none", r#""/healthz""#, |it| it.is_empty() || it.starts_with('/');
        check_every: "a duration with a unit, at least 1s", r#""5s""#, |it| *it >= SECOND;
    }
    LIMITS of Limits {
        connections: "a whole number, at least 1", "10000", |it| *it > 0;
        requests: "a whole number, 0 for no limit", "10000";
        keys_in_flight: "a whole number, 0 for no limit", "1000";
        header_count: "a whole number from 10 to 1000", "100", |it| (10..=1000).contains(it);
        header_bytes: "a size from 8KiB to 1MiB", r#""64KiB""#, |it| (8 << 10..=1 << 20).contains(it);
        streams: "a whole number from 1 to 10000", "100", |it| (1..=10_000).contains(it);
        body_timeout: "a duration with a unit, more than 0", r#""30s""#, more_than_zero;
        write_timeout: "a duration with a unit, more than 0", r#""30s""#, more_than_zero;
    }
    CORS of Cors {
        origins: "a list of origins, or [\"*\"]", r#"["https://shop.example"]"#;
        credentials: "true or false", "true";
    }
    POLICY of Policy {
        key: "required, optional or ignored", r#""required""#;
        key_from: "header:NAME or json:/POINTER", r#""json:/id""#;
        compare: "request or nothing", r#""request""#;
        verify: "standard, stripe, github, stripe:HEADER or github:HEADER, or empty for no signature", r#""standard""#;
        verify_secret_file: "the path of a file with a secret on each line, or empty for none", r#""/etc/onceward/hooks.secret""#;
        verify_tolerance: "a duration with a unit, from 1s to 1h", r#""5m""#, |it| (SECOND..=HOUR).contains(it);
        in_flight: "reject, or wait and a duration of more than 0", r#""wait 10s""#;
        unresolved: "hold or rerun", r#""hold""#;
        retention: "a duration with a unit, at least 1s", r#""24h""#, |it| *it >= SECOND;
        tombstone: "a duration with a unit, or 0 for none", r#""7d""#;
        lease: "a duration with a unit, from 1s to 1h", r#""30s""#, |it| (SECOND..=HOUR).contains(it);
        run_max: "a duration with a unit, at least 1s", r#""10m""#, |it| *it >= SECOND;
        max_request: "a size in B, KiB, MiB or GiB, at most 1GiB", r#""1MiB""#, at_most_gib;
        max_answer: "a size in B, KiB, MiB or GiB, at most 1GiB", r#""1MiB""#, at_most_gib;
        principal: "auto, none, header:NAME or cookie:NAME", r#""header:X-Account""#;
        release_on: "a list of statuses from 400 to 599", "[401, 403]";
        unknown_on: "a list of statuses from 400 to 599", "[502, 504]";
        oversize: "pass or refuse", r#""pass""#;
        fail_open: "true or false", "false";
        replay_drop: "a list of header names", r#"["x-request-id"]"#;
        retry_window: "a duration with a unit, or 0 when not known", r#""72h""#;
    }
    ROUTE of Route {
        name: "a label of 1 to 100 printable characters", r#""payments""#, |it| label(it);
        methods: "a list of methods that change something", r#"["POST", "PATCH"]"#;
        path: "a path pattern", r#""/orders/{id}""#;
        fresh_connection: "true or false", "true";
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn more_than_zero(it: &Duration) -> bool {
    !it.is_zero()
}

/// Bodies are held in memory while they are captured.
fn at_most_gib(it: &u64) -> bool {
    *it <= 1 << 30
}

fn label(it: &str) -> bool {
    (1..=100).contains(&it.chars().count()) && !it.chars().any(char::is_control)
}

fn assign<T: Setting>(field: &mut T, value: &Value, bound: fn(&T) -> bool) -> Result<(), Bad> {
    let found = T::take(value)?;
    if !bound(&found) {
        return Err(Bad::NotAccepted);
    }
    *field = found;
    Ok(())
}

/// Sets the key at a dotted path outside the routes; `None` when there is no such key.
pub(super) fn set(settings: &mut Settings, path: &str, value: &Value) -> Option<Result<(), Refusal>> {
    match path.split_once('.') {
        None => set_in(TOP, settings, path, value),
        Some(("tls", name)) => set_in(TLS, &mut settings.tls, name, value),
        Some(("admin", name)) => set_in(ADMIN, &mut settings.admin, name, value),
        Some(("upstream", name)) => set_in(UPSTREAM, &mut settings.upstream, name, value),
        Some(("limits", name)) => set_in(LIMITS, &mut settings.limits, name, value),
        Some(("cors", name)) => set_in(CORS, &mut settings.cors, name, value),
        Some(("policy", name)) => set_in(POLICY, &mut settings.policy, name, value),
        Some(_) => None,
    }
}

/// Sets a key of a route or of its policy; `None` when there is no such key.
pub(super) fn set_route(route: &mut Route, name: &str, value: &Value) -> Option<Result<(), Refusal>> {
    set_in(ROUTE, route, name, value).or_else(|| set_in(POLICY, &mut route.policy, name, value))
}

fn set_in<T>(keys: &[Key<T>], owner: &mut T, name: &str, value: &Value) -> Option<Result<(), Refusal>> {
    let key = keys.iter().find(|key| key.name == name)?;
    let refusal = |bad| Refusal { accepts: key.accepts, example: key.example, bad };
    Some((key.set)(owner, value).map_err(refusal))
}

/// The dotted paths of all keys outside the routes.
pub(super) fn paths() -> Vec<String> {
    fn names<T>(table: &str, keys: &[Key<T>]) -> Vec<String> {
        keys.iter().map(|key| format!("{table}{}", key.name)).collect()
    }
    [
        names("", TOP),
        names("tls.", TLS),
        names("admin.", ADMIN),
        names("upstream.", UPSTREAM),
        names("limits.", LIMITS),
        names("cors.", CORS),
        names("policy.", POLICY),
    ]
    .concat()
}

/// The names of all keys of a route.
pub(super) fn route_names() -> impl Iterator<Item = &'static str> {
    ROUTE.iter().map(|key| key.name).chain(POLICY.iter().map(|key| key.name))
}

/// The variable that sets the key at a dotted path.
pub(super) fn variable(path: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// What the names of all our variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "ONCEWARD_";
