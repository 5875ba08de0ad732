//! The settings as an operator meets them: where a value comes from, and what a wrong one says.

mod changes;
mod clashes;
mod refusals;
mod shown;
mod sources;

use http::Uri;

use super::{Flags, Read, Settings, SettingsError, read};

/// What every accepted text needs.
const UPSTREAM: &str = "[upstream]\nurls = [\"http://127.0.0.1:9000\"]\n";

/// A file that says the defaults out loud, and one route.
const REFERENCE: &str = r#"
listen = "127.0.0.1:8080"
store = "embedded:./onceward-data"
[admin]
listen = "127.0.0.1:8081"
token_file = "admin.token"        # made on first start, mode 0600, inside the store directory when absent
[upstream]
urls = ["http://127.0.0.1:9000"]
[policy]                          # defaults; every field may be set per route
key = "optional"                  # required | optional | ignored
in_flight = "reject"              # or "wait 10s"
unresolved = "hold"               # hold | rerun   (probe: later)
retention = "24h"
tombstone = "7d"
lease = "30s"
max_request = "1MiB"
max_answer = "1MiB"
principal = "auto"                # auto | header:NAME | cookie:NAME | none
release_on = [401, 403, 407, 425, 429]      # and 503 with Retry-After
unknown_on = [408, 502, 503, 504]           # 503 without Retry-After
oversize = "pass"                 # or "refuse"
fail_open = false
[[route]]
methods = ["POST"]
path = "/payments"                # exact, `/orders/{id}`, or a prefix `/v1/**`
key = "required"
retention = "7d"
"#;

fn merge(text: &str, env: &[(&str, &str)], flags: &Flags) -> Result<Read, SettingsError> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    read::merge(Some(text), Some("gateway.toml"), env, flags)
}

fn accepted(text: &str) -> Settings {
    merge(text, &[], &Flags::default()).unwrap().settings
}

/// The whole error for a file.
fn refused(text: &str, expected: &str) {
    let error = merge(text, &[], &Flags::default()).expect_err(text);
    assert_eq!(error.to_string(), expected, "{text}");
}

fn with_upstream() -> Settings {
    let mut settings = Settings::default();
    settings.upstream.urls = vec![Uri::from_static("http://127.0.0.1:9000")];
    settings
}
