//! Bearer tokens that end before the answers that were given to them.
//!
//! Under `principal = auto` a new token is a new caller: a retry that comes with a refreshed token finds no record
//! and runs again. So where tokens live shorter than answers are kept, somebody should know. What a token says of
//! itself is read without a check of its signature: this is a notice for operators, never an identity.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use onceward_core::{Clock, Timestamp};
use serde::Deserialize;

use crate::principal::PrincipalRule;
use crate::route::Route;

/// A longer token is not looked at.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// How long a route looks at no further token after one.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How long a route says nothing further after a notice.
const NOTICE_PAUSE: Duration = Duration::from_secs(60);

/// A route whose callers' tokens end before its answers do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortTokens {
    /// The route.
    pub route: String,
    /// The shortest life of a token that was seen, from its issue to its end; from when it was seen to its end
    /// where it does not say when it was issued.
    pub shortest: Duration,
    /// How long the route keeps answers.
    pub retention: Duration,
}

/// How long a token that is a JWT lives, by its own unchecked word: from `iat` to `exp`, else from `now` to `exp`.
/// `None` when it is none, is longer than 8 KiB, says nothing of its end, or ends before it begins.
#[must_use]
pub fn token_life(token: &[u8], now: Timestamp) -> Option<Duration> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split(|it| *it == b'.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let Claims { exp, iat } = serde_json::from_slice(&claims).ok()?;
    let now = Duration::from_millis(now.as_millis()).as_secs_f64();
    Duration::try_from_secs_f64(exp - iat.unwrap_or(now)).ok()
}

/// The two claims that matter, in seconds since the epoch, which may have a fraction (RFC 7519, section 2).
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    iat: Option<f64>,
}

/// What was seen of the tokens of one route.
#[derive(Debug)]
pub(crate) struct TokenWatch {
    /// The shortest life that is shorter than retention, in milliseconds; `u64::MAX` when there was none.
    shortest_ms: AtomicU64,
    next_look_ms: AtomicU64,
    next_notice_ms: AtomicU64,
}

impl Default for TokenWatch {
    fn default() -> Self {
        Self {
            shortest_ms: AtomicU64::new(u64::MAX),
            next_look_ms: AtomicU64::new(0),
            next_notice_ms: AtomicU64::new(0),
        }
    }
}

impl TokenWatch {
    /// Looks at the token of a request, once a second at most; a warning is logged once a minute at most.
    pub(crate) fn look(&self, route: &Route, headers: &HeaderMap, clock: &dyn Clock) {
        let Some(token) = identifying_token(&route.policy.principal, headers) else { return };
        let boot = clock.boot();
        if !turn(&self.next_look_ms, boot, LOOK_PAUSE) {
            return;
        }
        let retention = route.policy.policy.retention;
        let Some(life) = token_life(token, clock.wall()).filter(|it| *it < retention) else { return };
        self.shortest_ms.fetch_min(millis(life), Ordering::Relaxed);
        if turn(&self.next_notice_ms, boot, NOTICE_PAUSE) {
            tracing::warn!(
                route = route.name,
                token_life_s = life.as_secs(),
                retention_s = retention.as_secs(),
                "callers' tokens end before the answers: a retry with a new token would run again"
            );
        }
    }

    pub(crate) fn seen(&self, route: &Route) -> Option<ShortTokens> {
        let shortest = self.shortest_ms.load(Ordering::Relaxed);
        (shortest != u64::MAX).then(|| ShortTokens {
            route: route.name.clone(),
            shortest: Duration::from_millis(shortest),
            retention: route.policy.policy.retention,
        })
    }
}

/// The Bearer token by which the rule tells callers apart; `None` when it does so otherwise.
fn identifying_token<'a>(rule: &PrincipalRule, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    match rule {
        PrincipalRule::Auto => {}
        PrincipalRule::Header(name) if *name == AUTHORIZATION => {}
        PrincipalRule::Header(_) | PrincipalRule::Cookie(_) | PrincipalRule::None => return None,
    }
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether it is time, for one of many that ask at once; the next time is `pause` later.
fn turn(next_ms: &AtomicU64, boot: Duration, pause: Duration) -> bool {
    let (next, now) = (next_ms.load(Ordering::Relaxed), millis(boot));
    let later = now.saturating_add(millis(pause));
    now >= next && next_ms.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> Vec<u8> {
        let coded = |it: &str| URL_SAFE_NO_PAD.encode(it);
        format!("{}.{}.{}", coded(r#"{"alg":"RS256"}"#), coded(claims), coded("signature")).into_bytes()
    }

    fn life(claims: &str) -> Option<u64> {
        token_life(&jwt(claims), Timestamp::from_millis(1_000_000)).map(|it| it.as_secs())
    }

    #[test]
    fn a_token_lives_from_its_issue_or_from_now_to_its_end() {
        assert_eq!(life(r#"{"iat":900,"exp":4500,"sub":"a"}"#), Some(3600));
        assert_eq!(life(r#"{"exp":4600}"#), Some(3600));
        assert_eq!(life(r#"{"exp":4600,"iat":null}"#), Some(3600));
        assert_eq!(life(r#"{"iat":900.5,"exp":4500.5}"#), Some(3600));
        assert_eq!(life(r#"{"iat":10,"exp":20}"#), Some(10), "it has ended, but that is how long they live");
    }

    #[test]
    fn what_says_nothing_of_its_end_is_none() {
        for claims in [
            r"{}",
            r#"{"iat":5}"#,
            r#"{"exp":"4600"}"#,
            r#"{"exp":null}"#,
            r#"{"exp":1e999}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":999}"#,
            r#"{"exp":5,"iat":6}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":4600,"exp":4600}"#,
            r#"{"exp":4600}x"#,
            r#"[4600]"#,
            "4600",
            "",
            "\u{0}",
        ] {
            assert_eq!(life(claims), None, "{claims}");
        }
        for token in ["", "opaque", "a.b", "a.b.c", "..", "...", "a.e30.c.d", "a.e30=.c", "a.\u{e9}.c"] {
            assert_eq!(token_life(token.as_bytes(), Timestamp::ZERO), None, "{token}");
        }
    }

    #[test]
    fn a_hostile_token_costs_little() {
        assert_eq!(life(&format!(r#"{{"exp":4600,"x":{}}}"#, "[".repeat(5000))), None);
        let fits = format!(r#"{{"exp":4600,"x":"{}"}}"#, "y".repeat(6000));
        assert_eq!(life(&fits), Some(3600));
        let long = format!(r#"{{"exp":4600,"x":"{}"}}"#, "y".repeat(6200));
        assert_eq!(life(&long), None, "it is longer than is looked at");
    }

    #[test]
    fn only_one_of_many_has_the_turn() {
        let next = AtomicU64::new(0);
        let boot = Duration::from_secs(5);
        assert_eq!((0..10).filter(|_| turn(&next, boot, LOOK_PAUSE)).count(), 1);
        assert!(!turn(&next, boot + LOOK_PAUSE / 2, LOOK_PAUSE));
        assert!(turn(&next, boot + LOOK_PAUSE, LOOK_PAUSE));
    }
}
