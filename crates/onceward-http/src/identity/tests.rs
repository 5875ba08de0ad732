use crate::policy::KeyRule;
use crate::principal::PrincipalRule;
use http::HeaderName;

use super::*;
use crate::path::{PathPattern, normal_path};
use crate::policy::HttpPolicy;

fn cookie() -> PrincipalRule {
    PrincipalRule::Cookie("sid".into())
}

fn policy(principal: PrincipalRule) -> HttpPolicy {
    HttpPolicy { principal, ..HttpPolicy::default() }
}

/// A route that is named like its path.
fn route(path: &str, principal: PrincipalRule) -> Route {
    Route {
        name: path.into(),
        methods: Vec::new(),
        path: PathPattern::parse(path).unwrap(),
        policy: policy(principal),
        fresh_connection: false,
    }
}

fn ignored(path: &str) -> Route {
    let mut it = route(path, PrincipalRule::Auto);
    it.policy.key = KeyRule::Ignored;
    it
}

fn on(method: Method, mut route: Route) -> Route {
    route.methods = vec![method];
    route
}

fn routes(routes: Vec<Route>) -> Routes {
    Routes::new(routes, HttpPolicy::default())
}

/// The pairs of routes that are named, as `old>new`.
#[track_caller]
fn check(old: Vec<Route>, new: Vec<Route>, expected: &[&str]) {
    let changes = identity_changes(&routes(old), &routes(new));
    let named: Vec<_> = changes.iter().map(|it| format!("{}>{}", it.old_route, it.new_route)).collect();
    assert_eq!(named, expected, "{changes:?}");
}

#[test]
fn the_same_routes_change_nothing_however_they_overlap() {
    let all = || {
        vec![
            route("/a/{x}", cookie()),
            route("/{y}/b", PrincipalRule::None),
            on(Method::PUT, route("/a/**", PrincipalRule::Header(HeaderName::from_static("x-user")))),
            ignored("/a/c/**"),
            route("/a/**", PrincipalRule::Auto),
        ]
    };
    check(all(), all(), &[]);
    check(vec![], vec![], &[]);
    let other = Routes::new(vec![], policy(cookie()));
    assert_eq!(identity_changes(&other, &other), []);
}

#[test]
fn what_is_no_rule_of_the_principal_may_change() {
    let mut changed = route("/a", cookie());
    changed.policy =
        HttpPolicy { key: KeyRule::Required, max_request_bytes: 1, fail_open: true, ..policy(cookie()) };
    changed.policy.policy.retention *= 2;
    changed.fresh_connection = true;
    changed.name = "renamed".into();
    check(vec![route("/a", cookie())], vec![changed], &[]);
    // Routes with the rule that holds anyway may come, go and change places.
    let (a, b) = (|| route("/a", PrincipalRule::Auto), || route("/{b}", PrincipalRule::Auto));
    check(vec![], vec![a(), b()], &[]);
    check(vec![a(), b()], vec![], &[]);
    check(vec![a(), b()], vec![b(), a()], &[]);
}

#[test]
fn another_rule_is_named_wherever_it_comes_from() {
    check(vec![route("/a", cookie())], vec![route("/a", PrincipalRule::None)], &["/a>/a"]);
    check(vec![route("/a", cookie())], vec![], &["/a>default"]);
    check(vec![], vec![route("/a", cookie())], &["default>/a"]);
    let (a, all) = (|| route("/a", cookie()), || route("/**", PrincipalRule::None));
    check(vec![a(), all()], vec![all(), a()], &["/a>/**"]);
    check(vec![all(), a()], vec![a(), all()], &["/**>/a"]);
    let before = Routes::new(vec![], policy(PrincipalRule::Auto));
    let after = Routes::new(vec![], policy(cookie()));
    let told = identity_changes(&before, &after);
    assert_eq!(told.len(), 1, "named once, not for each method");
    assert_eq!(
        told[0].to_string(),
        "`principal` of POST /**: \"auto\" (route \"default\") so far, \
         \"cookie:sid\" (route \"default\") from now on"
    );
}

#[test]
fn only_paths_and_methods_that_both_meet_count() {
    check(vec![route("/a", cookie())], vec![route("/a", cookie()), route("/b", PrincipalRule::Auto)], &[]);
    check(
        vec![on(Method::POST, route("/a", cookie())), on(Method::PATCH, route("/a", PrincipalRule::None))],
        vec![on(Method::PATCH, route("/a", PrincipalRule::None)), on(Method::POST, route("/a", cookie()))],
        &[],
    );
    // A method without a default has no records before its route comes.
    check(vec![], vec![on(Method::PUT, route("/a", cookie()))], &[]);
    check(
        vec![on(Method::PUT, route("/a", cookie()))],
        vec![on(Method::PUT, route("/a", PrincipalRule::Auto))],
        &["/a>/a"],
    );
    check(
        vec![route("/a/{x}", cookie())],
        vec![route("/a/{x}", cookie()), route("/{y}/b", PrincipalRule::None)],
        &["default>/{y}/b"],
    );
}

/// Or two reloads, through a route that is ignored in between, would do what one may not.
#[test]
fn a_route_that_is_ignored_keeps_its_principal_too() {
    let changes = |old: Route, new: Route| identity_changes(&routes(vec![old]), &routes(vec![new])).len();
    let ignored_with = |rule: PrincipalRule| {
        let mut it = ignored("/a");
        it.policy.principal = rule;
        it
    };
    assert_eq!(changes(route("/a", cookie()), ignored_with(cookie())), 0);
    assert_eq!(changes(ignored_with(cookie()), route("/a", cookie())), 0);
    assert!(changes(route("/a", cookie()), ignored("/a")) > 0);
    assert!(changes(ignored_with(cookie()), route("/a", PrincipalRule::None)) > 0);
}

/// Every difference that a request can meet is named: tried on small routes and all their paths.
#[test]
fn no_difference_that_a_request_meets_is_missed() {
    let patterns = ["/a", "/{x}", "/a/b", "/{x}/b", "/a/{y}", "/a/**", "/**", "/{x}/", "/a/", "/{x}/**"];
    let paths = ["/", "/a", "/c", "/a/", "/c/", "/a/b", "/c/b", "/a/c", "/c/c", "/a/b/c", "/a/b/", "/c/b/c"];
    let rules = [PrincipalRule::Auto, cookie(), PrincipalRule::None];
    let mut dice: u64 = 1;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(dice >> 33).unwrap() % sides
    };
    let mut named = 0;
    for _ in 0..20_000 {
        let mut some = || {
            let list = (0..roll(4)).map(|_| {
                let pattern = patterns[roll(patterns.len())];
                route(pattern, rules[roll(3)].clone())
            });
            routes(list.collect())
        };
        let (old, new) = (some(), some());
        let rule = |routes: &Routes, path: &str| {
            routes.find(&Method::POST, &normal_path(path)).map(|it| it.policy.principal.clone())
        };
        let meets = paths.iter().any(|path| match (rule(&old, path), rule(&new, path)) {
            (Some(old), Some(new)) => old != new,
            (None, _) | (_, None) => false,
        });
        let changes = identity_changes(&old, &new);
        assert!(!meets || !changes.is_empty(), "{old:?}\n{new:?}");
        named += usize::from(!meets && !changes.is_empty());
    }
    assert!(named < 200, "{named} of 20,000 were named without need");
}

#[test]
fn a_key_that_stands_elsewhere_is_another() {
    let from = |it: &str| {
        let mut route = route("/hooks", PrincipalRule::Auto);
        route.policy.key_from = it.parse().unwrap();
        routes(vec![route])
    };
    let changes = identity_changes(&from("json:/id"), &from("header:webhook-id"));
    assert!(!changes.is_empty());
    assert!(
        changes[0].to_string().contains("`key_from` of PATCH /hooks")
            || changes[0].to_string().contains("`key_from` of POST /hooks"),
        "{}",
        changes[0]
    );
    assert_eq!(identity_changes(&from("json:/id"), &from("json:/id")), []);
}
