//! Fields that belong to one connection and are never passed on (RFC 9110 section 7.6.1).

use http::HeaderValue;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, TE,
};
use onceward_http::{HOP_BY_HOP, IDEMPOTENCY_KEY, keep_lines};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The same list, made once: a constant of names is made and taken apart again wherever it stands.
static BASE: [HeaderName; 9] = HOP_BY_HOP;

/// Copies what is meant for the far end, every line in its order, except what `drops` names.
pub(crate) fn copy(from: &HeaderMap, to: &mut HeaderMap, drops: impl Fn(&HeaderName) -> bool) {
    let named = named_by_connection(from);
    for (name, value) in from {
        if !is_dropped(name, &named, &drops) {
            to.append(name, value.clone());
        }
    }
}

/// Keeps what is meant for the far end, every line in its order, except what `drops` names.
pub(crate) fn keep(mut headers: HeaderMap, drops: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let named = named_by_connection(&headers);
    let mut names = headers.keys();
    let first = names.find(|name| is_dropped(name, &named, &drops));
    let Some(first) = first else { return headers };
    if names.all(|name| is_dropped(name, &named, &drops)) {
        // Servers write these fields last. Then none changes its place: `HeaderMap::remove` puts the last field in the
        // place of the one that goes. It costs a third of what making another map does.
        let last: Vec<_> = headers.keys().skip_while(|it| *it != first).cloned().collect();
        return without(headers, &last);
    }
    keep_lines(&mut headers, |name| !is_dropped(name, &named, &drops));
    headers
}

fn without(mut headers: HeaderMap, names: &[HeaderName]) -> HeaderMap {
    for name in names {
        headers.remove(name);
    }
    headers
}

fn is_dropped(name: &HeaderName, named: &[HeaderName], drops: impl Fn(&HeaderName) -> bool) -> bool {
    BASE.contains(name) || named.contains(name) || drops(name)
}

/// Whether the name is one that only Onceward itself may use.
pub(crate) fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("onceward-")
}

/// Whether the sender of these headers reads trailers.
pub(crate) fn accepts_trailers(headers: &HeaderMap) -> bool {
    has_token(headers, &TE, "trailers")
}

/// Whether a comma-separated field has this word, in any case; parameters are ignored.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    tokens(headers, name).any(|it| it.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(word))
}

/// The words of a comma-separated field over all its lines.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::to_str);
    lines.filter_map(Result::ok).flat_map(|it| it.split(',')).map(str::trim)
}

/// The fields that `Connection` names, without those on which the request's meaning hangs: a client must not be
/// able to strip the key, the fence, the host or its own credential on their way to the upstream, after the
/// layer has told callers and requests apart by them.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    const MEANING: [HeaderName; 7] =
        [HOST, CONTENT_LENGTH, CONTENT_TYPE, AUTHORIZATION, COOKIE, IDEMPOTENCY_KEY, X_API_KEY];
    let protected = |it: &HeaderName| is_ours(it) || MEANING.contains(it);
    let mut lines = headers.get_all(&CONNECTION).iter();
    if lines.all(|it| it.as_bytes().eq_ignore_ascii_case(b"keep-alive")) {
        // What is said most often names nothing that does not go anyway.
        return Vec::new();
    }
    let names = tokens(headers, &CONNECTION).filter_map(|it| HeaderName::from_bytes(it.as_bytes()).ok());
    names.filter(|it| !protected(it)).collect()
}
