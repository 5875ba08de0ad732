//! Which policy a request gets. Routes choose policy and metric labels, never identity.

use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::policy::{HttpPolicy, KeyRule};

/// A path pattern: exact (`/payments`), with one-segment holes (`/orders/{id}`), or a prefix (`/v1/**`, which
/// also matches `/v1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    Any,
}

/// Why a text is not a [`PathPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path pattern is `/payments`, `/orders/{{id}}` or `/v1/**`: {0}")]
pub struct PatternError(&'static str);

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let rest = text.strip_prefix('/').ok_or(PatternError("it must begin with `/`"))?;
        let (rest, open) = match rest.strip_suffix("**") {
            Some("") => return Ok(Self { segments: Vec::new(), open: true }),
            Some(before) => {
                (before.strip_suffix('/').ok_or(PatternError("`**` must be a whole last segment"))?, true)
            }
            None => (rest, false),
        };
        let segment = |it: &str| match it.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Ok(Segment::Any),
            _ if it.contains(['{', '}', '*']) => Err(PatternError("`{name}` must be a whole segment")),
            _ if it.contains(['?', '#']) => Err(PatternError("a query or a fragment is no part of a path")),
            _ => Ok(Segment::Text(normal_path(it))),
        };
        Ok(Self { segments: rest.split('/').map(segment).collect::<Result<_, _>>()?, open })
    }

    /// Whether a path that [`normal_path`] made matches.
    fn matches(&self, normal: &str) -> bool {
        let mut given = normal.strip_prefix('/').unwrap_or(normal).split('/');
        for wanted in &self.segments {
            match (wanted, given.next()) {
                (Segment::Text(text), Some(it)) if text == it => {}
                (Segment::Any, Some(it)) if !it.is_empty() => {}
                (Segment::Text(_) | Segment::Any, _) => return false,
            }
        }
        self.open || given.next().is_none()
    }
}

/// A path as routes see it: escapes of unreserved characters undone, dot segments resolved (RFC 3986,
/// sections 6.2.2.2 and 5.2.4), so that `/%70ayments` and `/x/../payments` cannot dodge a rule.
fn normal_path(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|it| u8::from_str_radix(it, 16).ok()).map(char::from);
        match code {
            Some(it) if it.is_ascii_alphanumeric() || "-._~".contains(it) => {
                plain.push(it);
                rest = &rest[at + 3..];
            }
            Some(_) => {
                plain.push_str(&rest[at..at + 3].to_ascii_uppercase());
                rest = &rest[at + 3..];
            }
            None => {
                plain.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    if !plain.split('/').any(|it| it == "." || it == "..") {
        return plain;
    }
    let mut out: Vec<&str> = Vec::new();
    let mut segments = plain.split('/').peekable();
    while let Some(it) = segments.next() {
        let last = segments.peek().is_none();
        match it {
            "." | ".." => {
                if it == ".." && out.len() > 1 {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            _ => out.push(it),
        }
    }
    out.join("/")
}

/// One rule: these methods on this path get this policy.
#[derive(Debug, Clone)]
pub struct Route {
    /// The label in metrics and logs.
    pub name: String,
    /// Which methods. Empty: POST and PATCH.
    pub methods: Vec<Method>,
    /// Which paths.
    pub path: PathPattern,
    /// What they get.
    pub policy: HttpPolicy,
    /// Whether the upstream gets each of these operations on a connection of its own.
    pub fresh_connection: bool,
}

/// The routes of a layer, in order; the first match wins.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    fallback: Option<Arc<Route>>,
}

/// Whether a method can be an operation at all: the methods whose repeats have effects.
#[must_use]
pub fn may_be_operation(method: &Method) -> bool {
    [Method::POST, Method::PATCH, Method::PUT, Method::DELETE].contains(method)
}

impl Routes {
    /// `routes` in order, and `default` for POST and PATCH requests that match none.
    #[must_use]
    pub fn new(routes: Vec<Route>, default: HttpPolicy) -> Self {
        let fallback = Route {
            name: "default".into(),
            methods: Vec::new(),
            path: PathPattern { segments: Vec::new(), open: true },
            policy: default,
            fresh_connection: false,
        };
        Self { routes: routes.into_iter().map(Arc::new).collect(), fallback: Some(Arc::new(fallback)) }
    }

    /// The route under which a request may be an operation; `None` when it just passes through.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> Option<Arc<Route>> {
        if !may_be_operation(method) {
            return None;
        }
        let normal = normal_path(path);
        let found = self.routes.iter().find(|it| it.covers(method) && it.path.matches(&normal));
        let found = found.or(self.fallback.as_ref().filter(|it| it.covers(method)))?;
        (found.policy.key != KeyRule::Ignored).then(|| Arc::clone(found))
    }
}

impl Route {
    fn covers(&self, method: &Method) -> bool {
        if self.methods.is_empty() {
            *method == Method::POST || *method == Method::PATCH
        } else {
            self.methods.contains(method)
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in &self.segments {
            match it {
                Segment::Text(text) => write!(f, "/{text}")?,
                Segment::Any => f.write_str("/{}")?,
            }
        }
        if self.open { f.write_str("/**") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_paths() {
        for (pattern, path, expected) in [
            ("/payments", "/payments", true),
            ("/payments", "/payments/", false),
            ("/payments", "/payments/1", false),
            ("/payments", "/%70ayments", true),
            ("/payments", "/p%61yments", true),
            ("/payments", "/./payments", true),
            ("/payments", "/x/../payments", true),
            ("/payments", "/x/%2e%2E/payments", true),
            ("/payments", "/../../payments", true),
            ("/payments", "/payments/x/..", false),
            ("/payments/", "/payments/x/..", true),
            ("/payments", "/Payments", false),
            ("/payments", "/pay%2Fments", false),
            ("/orders/{id}", "/orders/7", true),
            ("/orders/{id}", "/orders/", false),
            ("/orders/{id}", "/orders/7/items", false),
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v1/a/b", true),
            ("/v1/**", "/v10", false),
            ("/**", "/", true),
            ("/**", "/a", true),
            ("/a%2fb", "/a%2Fb", true),
            ("/100%", "/100%", true),
            ("/é", "/é", true),
        ] {
            let it = PathPattern::parse(pattern).unwrap();
            assert_eq!(it.matches(&normal_path(path)), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        for bad in ["", "payments", "/a**", "/**/a", "/a{id}", "/{}", "/a?b", "/*"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_match_wins_and_other_methods_pass_through() {
        let route = |name: &str, methods: &[Method], path: &str, key| Route {
            name: name.into(),
            methods: methods.to_vec(),
            path: PathPattern::parse(path).unwrap(),
            policy: HttpPolicy { key, ..HttpPolicy::default() },
            fresh_connection: false,
        };
        let routes = Routes::new(
            vec![
                route("free", &[], "/free/**", KeyRule::Ignored),
                route("pay", &[Method::POST], "/pay", KeyRule::Required),
                route("put", &[Method::PUT], "/pay", KeyRule::Optional),
                route("all", &[], "/**", KeyRule::Optional),
            ],
            HttpPolicy::default(),
        );
        let name = |method: Method, path| routes.find(&method, path).map(|it| it.name.clone());
        assert_eq!(name(Method::POST, "/pay").as_deref(), Some("pay"));
        assert_eq!(name(Method::PATCH, "/pay").as_deref(), Some("all"));
        assert_eq!(name(Method::PUT, "/pay").as_deref(), Some("put"));
        assert_eq!(name(Method::PUT, "/x"), None);
        assert_eq!(name(Method::DELETE, "/pay"), None);
        assert_eq!(name(Method::GET, "/pay"), None);
        assert_eq!(name(Method::POST, "/free/x"), None);
        let plain = Routes::new(Vec::new(), HttpPolicy::default());
        assert_eq!(plain.find(&Method::POST, "/x").unwrap().name, "default");
    }
}
