//! Which policy a request gets. Routes choose policy and metric labels, never identity.

use std::sync::Arc;

use http::Method;

use crate::path::{PathPattern, normal_path};
use crate::policy::{HttpPolicy, KeyRule};
use crate::token::{ShortTokens, TokenWatch};

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
    routes: Vec<Arc<Watched>>,
    fallback: Option<Arc<Watched>>,
}

/// A route, and what was seen of its callers' tokens.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) route: Arc<Route>,
    pub(crate) tokens: TokenWatch,
}

/// The methods whose repeats have effects.
pub(crate) const OPERATIONS: [Method; 4] = [Method::POST, Method::PATCH, Method::PUT, Method::DELETE];

/// Whether a method can be an operation at all: the methods whose repeats have effects.
#[must_use]
pub fn may_be_operation(method: &Method) -> bool {
    OPERATIONS.contains(method)
}

impl Routes {
    /// `routes` in order, and `default` for POST and PATCH requests that match none.
    #[must_use]
    pub fn new(routes: Vec<Route>, default: HttpPolicy) -> Self {
        let fallback = Route {
            name: "default".into(),
            methods: Vec::new(),
            path: PathPattern::parse("/**").expect("the pattern for every path is valid"),
            policy: default,
            fresh_connection: false,
        };
        let watched = |it| Arc::new(Watched { route: Arc::new(it), tokens: TokenWatch::default() });
        Self { routes: routes.into_iter().map(watched).collect(), fallback: Some(watched(fallback)) }
    }

    /// The route under which a request may be an operation; `None` when it just passes through. A method in
    /// small letters is found, too, so that it can be refused.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> Option<Arc<Route>> {
        self.matched(method, path).map(|it| Arc::clone(&it.route))
    }

    /// As [`find`](Self::find).
    pub(crate) fn matched(&self, method: &Method, path: &str) -> Option<&Watched> {
        let small = method.as_str().bytes().any(|it| it.is_ascii_lowercase());
        let capitals = || Method::from_bytes(method.as_str().to_ascii_uppercase().as_bytes()).ok();
        let capitals = if small { capitals() } else { None };
        let method = Some(capitals.as_ref().unwrap_or(method)).filter(|it| may_be_operation(it))?;
        let normal = normal_path(path);
        let mut all = self.routes.iter().chain(&self.fallback);
        let found = all.find(|it| it.route.covers(method) && it.route.path.matches(&normal))?;
        (found.route.policy.key != KeyRule::Ignored).then_some(found)
    }

    /// The routes whose callers' tokens end before the answers that they were given, as far as was seen since
    /// these routes were made.
    #[must_use]
    pub fn short_tokens(&self) -> Vec<ShortTokens> {
        let all = self.routes.iter().chain(&self.fallback);
        all.filter_map(|it| it.tokens.seen(&it.route)).collect()
    }

    /// The routes that requests of `method` are matched with, in order.
    pub(crate) fn covering(&self, method: &Method) -> Vec<&Route> {
        let all = self.routes.iter().chain(&self.fallback);
        all.map(|it| &*it.route).filter(|it| it.covers(method)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_paths() {
        for (pattern, path, expected) in [
            ("/payments", "/payments", true),
            ("/payments", "/payments/", false),
            ("/payments", "/payments/1", false),
            ("/payments", "//payments", true),
            ("/payments", "///x//..//payments", true),
            ("/orders/{id}", "/orders//7", true),
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
            ("/100", "/100%", false),
            ("/**", "/é%", true),
        ] {
            let it = PathPattern::parse(pattern).unwrap();
            assert_eq!(it.matches(&normal_path(path)), expected, "{pattern} {path}");
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
