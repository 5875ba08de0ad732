//! Load from `wrk`, with a script that writes each request by joining three texts.
//!
//! All cells of a comparison run the same script with requests of the same length, so that what the generator costs
//! is the same in each of them.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Result;

/// The path that every request names.
pub const PATH: &str = "/charges";
/// The body of every POST.
pub const BODY: &str = r#"{"amount":1200,"currency":"EUR"}"#;
/// Headers of every request but for the key.
pub const HEADERS: [(&str, &str); 2] =
    [("Authorization", "Bearer sk_test_4eC39HqLyjWDarjtT1zdp7dc"), ("Content-Type", "application/json")];
/// The host that every request names.
pub const HOST: &str = "bench.test";

/// Which requests are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requests {
    /// POSTs with an idempotency key that nobody has used: this prefix, the thread, a number.
    Unique(String),
    /// POSTs with the keys [`stored_key`]`(0)` to `(n - 1)`, in turn.
    Stored(u32),
    /// POSTs without a key. Another header of the same length takes its place.
    Keyless(String),
    /// GETs without a key and without a body.
    Get(String),
}

/// The key of that number among those that [`Requests::Stored`] sends.
pub fn stored_key(number: u32) -> String {
    format!("stored-{number}")
}

/// How much load.
#[derive(Debug, Clone, Copy)]
pub struct Strength {
    /// Threads of the generator.
    pub threads: u32,
    /// Connections over all threads.
    pub connections: u32,
    /// For how long.
    pub length: Duration,
}

/// What the generator saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Requests that were answered.
    pub requests: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Answers with a status of 400 or more.
    pub refused: u64,
    /// Connections that failed, broke, or gave no answer in time.
    pub broken: u64,
    /// The median latency in microseconds.
    pub p50_us: f64,
    /// The latency that 99 of 100 requests do not exceed, in microseconds.
    pub p99_us: f64,
}

impl Seen {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 * 1e6 / self.took_us as f64
    }
}

/// Runs the generator to its end. Blocks the thread.
///
/// # Errors
/// `wrk` is not installed, or did not end well.
pub fn run(target: SocketAddr, requests: &Requests, strength: Strength) -> Result<Seen> {
    let folder = TempDir::new()?;
    let file = folder.path().join("requests.lua");
    fs::write(&file, script(requests))?;
    let output = Command::new("wrk")
        .arg(format!("-t{}", strength.threads.min(strength.connections)))
        .arg(format!("-c{}", strength.connections))
        .arg(format!("-d{}s", strength.length.as_secs().max(1)))
        .args(["--timeout", "5s", "-s"])
        .arg(&file)
        .arg(format!("http://{target}{PATH}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|it| format!("cannot run wrk ({it}): `apt-get install wrk` installs it"))?;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find_map(|it| it.strip_prefix(MARK));
    line.and_then(parse).ok_or_else(|| format!("wrk ended with {}: {said}{complained}", output.status).into())
}

const MARK: &str = "onceward-bench";

fn script(requests: &Requests) -> String {
    let headers: String = HEADERS.iter().map(|(name, value)| format!("{name}: {value}\\r\\n")).collect();
    let length = format!("Content-Length: {}\\r\\n", BODY.len());
    let (method, header, prefix, own, span) = match requests {
        Requests::Unique(prefix) => ("POST", "Idempotency-Key", prefix.clone(), "id .. '-'", 1e15),
        Requests::Stored(keys) => ("POST", "Idempotency-Key", "stored-".to_owned(), "''", f64::from(*keys)),
        Requests::Keyless(prefix) => ("POST", "X-Trace-Request", prefix.clone(), "id .. '-'", 1e15),
        Requests::Get(prefix) => ("GET", "X-Trace-Request", prefix.clone(), "id .. '-'", 1e15),
    };
    let (length, body) = if method == "GET" { ("", "") } else { (length.as_str(), BODY) };
    format!(
        "local threads = 0
function setup(thread) thread:set('id', threads); threads = threads + 1 end
local head, tail, n = '', '\\r\\n\\r\\n{body}', -1
function init(args)
  head = '{method} {PATH} HTTP/1.1\\r\\nHost: {HOST}\\r\\n{headers}{length}{header}: {prefix}' .. {own}
end
function request() n = n + 1; return head .. n % {span:.0} .. tail end
function done(summary, latency, requests)
  local e = summary.errors
  print('{MARK}', summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99))
end
"
    )
}

fn parse(line: &str) -> Option<Seen> {
    let fields: Vec<f64> = line.split_whitespace().map(|it| it.parse().ok()).collect::<Option<_>>()?;
    let [requests, took, refused, broken, p50_us, p99_us] = fields[..] else { return None };
    #[expect(clippy::cast_possible_truncation, reason = "counts that a few seconds can reach")]
    let whole = |it: f64| it as u64;
    Some(Seen {
        requests: whole(requests),
        took_us: whole(took).max(1),
        refused: whole(refused),
        broken: whole(broken),
        p50_us,
        p99_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_prints_is_read() {
        let seen = parse("\t1000\t2000000\t1\t2\t310.5\t900").unwrap();
        assert_eq!((seen.requests, seen.refused, seen.broken), (1000, 1, 2));
        assert!((seen.rate() - 500.0).abs() < 1e-9 && (seen.p50_us - 310.5).abs() < 1e-9);
        assert!(parse("1000\t2000000").is_none() && parse("nan of them").is_none());
    }

    #[test]
    fn requests_with_and_without_a_key_are_as_long() {
        let (with, without) =
            (script(&Requests::Unique("a-".into())), script(&Requests::Keyless("a-".into())));
        assert!(with != without && with.len() == without.len());
        assert!(!script(&Requests::Get("a-".into())).contains("Content-Length"));
    }

    #[test]
    fn stored_keys_repeat_and_are_those_that_were_stored() {
        let text = script(&Requests::Stored(7));
        assert!(text.contains("n % 7 ") && text.contains("Idempotency-Key: stored-' .. ''"), "{text}");
        assert_eq!(stored_key(3), "stored-3");
    }
}
