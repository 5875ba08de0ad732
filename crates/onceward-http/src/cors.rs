//! What browsers need to be allowed to read answers that are not the application's own.
//!
//! 1. An answer of ours, a problem or a replay, to a request whose `Origin` is allowed says so. What a stored
//!    answer said to the origin of the first request is dropped and said anew.
//! 2. An answer of the application stands as it is. Where it allows the origin itself, its exposed headers gain
//!    the two that a script wants to see of us.
//! 3. A preflight is the application's to answer: it must allow `Idempotency-Key` itself.
//!
//! Without a policy nothing is touched.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::answer::{IDEMPOTENT_REPLAYED, keep_lines};

/// What a script may read of ours.
const EXPOSED: [HeaderName; 2] = [IDEMPOTENT_REPLAYED, RETRY_AFTER];

/// Which web pages may read Onceward's own answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsPolicy {
    /// `None`: any.
    origins: Option<Vec<String>>,
    credentials: bool,
}

/// What is wrong with a [`CorsPolicy`], as half a sentence that names the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CorsError(String);

impl CorsPolicy {
    /// Pages of these origins may read, with cookies and `Authorization` if `credentials`. An origin is exact, as
    /// browsers send it: `https://shop.example` or `http://localhost:3000`. `*` alone stands for any.
    ///
    /// # Errors
    /// An origin that no browser sends; `*` beside others; `*` with credentials, under which every page could
    /// read what belongs to the person in front of it.
    pub fn new<T: Into<String>>(
        origins: impl IntoIterator<Item = T>,
        credentials: bool,
    ) -> Result<Self, CorsError> {
        let origins: Vec<String> = origins.into_iter().map(Into::into).collect();
        if origins.iter().any(|it| it == "*") {
            return match (origins.len(), credentials) {
                (1, false) => Ok(Self { origins: None, credentials }),
                (1, true) => Err(CorsError(
                    "with credentials every origin must be named; `*` would let any page read".into(),
                )),
                _ => Err(CorsError("`*` stands for every origin; name no others beside it".into())),
            };
        }
        for origin in &origins {
            check(origin)
                .map_err(|why| CorsError(format!("{origin:?} is no origin as browsers send it: {why}")))?;
        }
        Ok(Self { origins: Some(origins), credentials })
    }

    /// Whether pages of `origin` may read.
    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.as_ref().is_none_or(|it| it.iter().any(|it| it.as_bytes() == origin.as_bytes()))
    }

    /// Adds to an answer of ours what the request's origin may do with it. For whoever answers in front of the
    /// layer; the layer does so itself.
    pub fn dress_own(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        self.dress(origin_of(request), answer);
    }

    fn dress(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        // One answer for everybody needs no mark for caches.
        if self.origins.is_some() {
            vary_by_origin(answer);
        }
        let Some(origin) = origin.filter(|it| self.allows(it)) else { return };
        let allowed = if self.origins.is_some() { origin.clone() } else { HeaderValue::from_static("*") };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        expose(answer);
    }
}

/// What a request asks of the policy, kept until its answer is here.
#[derive(Debug)]
pub(crate) struct CrossOrigin {
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

/// Whose an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The application's, on its way to the caller that made it happen.
    Theirs,
    /// The application's, handed out again.
    Replayed,
    /// A problem of ours.
    Ours,
}

impl CrossOrigin {
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let is_preflight = *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        Self { origin: origin_of(headers).cloned(), is_preflight }
    }

    pub(crate) fn dress(&self, policy: &CorsPolicy, whose: Whose, answer: &mut HeaderMap) {
        match whose {
            Whose::Ours => policy.dress(self.origin.as_ref(), answer),
            Whose::Replayed => {
                keep_lines(answer, |name| {
                    // The names that the application exposes do not hang on who asked first.
                    *name == ACCESS_CONTROL_EXPOSE_HEADERS || !name.as_str().starts_with("access-control-")
                });
                policy.dress(self.origin.as_ref(), answer);
                if !answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
                    keep_lines(answer, |name| *name != ACCESS_CONTROL_EXPOSE_HEADERS);
                }
            }
            Whose::Theirs if self.is_preflight => {}
            Whose::Theirs => {
                let allowed = answer.get(ACCESS_CONTROL_ALLOW_ORIGIN);
                if allowed.is_some_and(|it| it == "*" || Some(it) == self.origin.as_ref()) {
                    expose(answer);
                }
            }
        }
    }
}

/// The only `Origin` line.
fn origin_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(ORIGIN).iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn vary_by_origin(answer: &mut HeaderMap) {
    if !has_word(answer, &VARY, ORIGIN.as_str()) && !has_word(answer, &VARY, "*") {
        answer.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Adds our two names to those that a script may read. `*` says so already, but not for requests with credentials.
fn expose(answer: &mut HeaderMap) {
    let with_credentials = answer.get(ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some_and(|it| it == "true");
    if !with_credentials && has_word(answer, &ACCESS_CONTROL_EXPOSE_HEADERS, "*") {
        return;
    }
    for name in EXPOSED {
        if !has_word(answer, &ACCESS_CONTROL_EXPOSE_HEADERS, name.as_str()) {
            answer.append(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from(name));
        }
    }
}

/// Whether a comma-separated field has this word, in any case.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let mut words = headers.get_all(name).iter().flat_map(|it| it.as_bytes().split(|it| *it == b','));
    words.any(|it| it.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Checks that a browser could send `origin`: it compares exactly, so that any other text would never match.
fn check(origin: &str) -> Result<(), &'static str> {
    let (scheme, host) = origin.split_once("://").ok_or("write scheme://host or scheme://host:port")?;
    let is_scheme = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"+-.".contains(&it);
    if !scheme.starts_with(|it: char| it.is_ascii_lowercase()) || !scheme.bytes().all(is_scheme) {
        return Err("write the scheme in small letters");
    }
    if host.contains(['/', '?', '#', '@']) {
        return Err("leave out the path, a slash at the end too");
    }
    let is_host = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-._:[]".contains(&it);
    if host.is_empty() || !host.bytes().all(is_host) {
        return Err("write the host in small ASCII letters, each origin in full");
    }
    match (scheme, host.rsplit_once(':')) {
        ("https", Some((_, "443"))) | ("http", Some((_, "80"))) => Err("leave out the default port"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_no_browser_sends_is_refused() {
        for (origin, is_good) in [
            ("https://shop.example", true),
            ("http://localhost:3000", true),
            ("http://[::1]:3000", true),
            ("chrome-extension://abcdef", true),
            ("https://shop.example/", false),
            ("https://shop.example:443", false),
            ("http://shop.example:80", false),
            ("https://Shop.example", false),
            ("HTTPS://shop.example", false),
            ("https://*.shop.example", false),
            ("https://müller.example", false),
            ("https://a@shop.example", false),
            ("shop.example", false),
            ("://shop.example", false),
            ("https://", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(CorsPolicy::new([origin], false).is_ok(), is_good, "{origin}");
        }
    }

    #[test]
    fn any_origin_goes_neither_with_others_nor_with_credentials() {
        assert!(CorsPolicy::new(["*"], false).is_ok());
        assert!(CorsPolicy::new(["*"], true).is_err());
        assert!(CorsPolicy::new(["*", "https://shop.example"], false).is_err());
        assert!(CorsPolicy::new([""; 0], true).is_ok(), "nobody");
    }
}
