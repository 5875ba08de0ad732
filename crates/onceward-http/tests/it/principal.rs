//! Who calls: callers are told apart, or refused when they cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderName, StatusCode};
use onceward_core::Principal;
use onceward_http::{HttpPolicy, PrincipalRule};

use crate::world::{Ask, Seen, World, paid, pay, pay_other, policy};

fn under(rule: &PrincipalRule) -> HttpPolicy {
    policy(|it| it.principal = rule.clone())
}

type Lines = &'static [(&'static str, &'static str)];

fn with(sent: Ask, lines: Lines) -> Ask {
    lines.iter().fold(sent, |it, (name, value)| it.header(name, value))
}

/// Two requests that differ in these lines alone come from one caller, or from two.
async fn check(rule: &PrincipalRule, first: Lines, second: Lines, is_same: bool) {
    let world = World::under(under(rule), paid);
    world.send(with(pay("k"), first)).await.assert_first(201);
    let got = world.send(with(pay("k"), second)).await;
    assert_eq!(got.is_replay(), is_same, "{rule:?} {first:?} {second:?}");
    assert_eq!(world.effects(), if is_same { 1 } else { 2 }, "{rule:?} {first:?} {second:?}");
}

#[tokio::test]
async fn auto_tells_callers_apart_by_authorization_and_else_by_api_key() {
    let auto = &PrincipalRule::Auto;
    let alice: Lines = &[("authorization", "Bearer alice")];
    for (other, is_same) in [
        (&[("authorization", "Bearer alice")] as Lines, true),
        (&[("authorization", "bearer  alice")], true),
        (&[("authorization", "Bearer alice"), ("x-api-key", "any")], true),
        (&[("authorization", "Bearer alice"), ("cookie", "any=1")], true),
        (&[("authorization", "Bearer Alice")], false),
        (&[("authorization", "Bearer bob")], false),
        (&[("authorization", "Basic alice")], false),
        (&[("x-api-key", "alice")], false),
        (&[], false),
    ] {
        check(auto, alice, other, is_same).await;
    }
    check(auto, &[("x-api-key", "a")], &[("x-api-key", "a")], true).await;
    check(auto, &[("x-api-key", "a")], &[("x-api-key", "b")], false).await;
    check(auto, &[("x-api-key", "a"), ("cookie", "s=1")], &[("x-api-key", "a")], true).await;
    check(auto, &[], &[], true).await;
}

#[tokio::test]
async fn a_named_header_or_cookie_tells_callers_apart_and_nothing_else_does() {
    let header = &PrincipalRule::Header(HeaderName::from_static("x-user"));
    check(header, &[("x-user", "a")], &[("x-user", "b")], false).await;
    check(header, &[("x-user", "a")], &[("x-user", "a"), ("authorization", "Digest z")], true).await;
    let cookie = &PrincipalRule::Cookie("sid".into());
    check(cookie, &[("cookie", "sid=1")], &[("cookie", "sid=2")], false).await;
    check(cookie, &[("cookie", "sid=1; theme=dark")], &[("cookie", "theme=light; sid=1")], true).await;
    // Who is not named is not known.
    for (rule, lines) in [
        (header, &[] as Lines),
        (header, &[("authorization", "Bearer a")]),
        (cookie, &[("cookie", "xsid=1")]),
        (cookie, &[("sid", "1")]),
    ] {
        let world = World::under(under(rule), paid);
        world.send(with(pay("k"), lines)).await.assert_problem(400, "principal-unknown");
        assert_eq!(world.effects(), 0);
    }
    let none = &PrincipalRule::None;
    check(none, &[("authorization", "Bearer a")], &[("authorization", "Digest b"), ("cookie", "c=1")], true)
        .await;
}

#[tokio::test]
async fn a_caller_that_cannot_be_worked_out_is_refused_and_the_setting_is_named() {
    for (rule, lines) in [
        (PrincipalRule::Auto, &[("authorization", "Digest username=a")] as Lines),
        (PrincipalRule::Auto, &[("authorization", "AWS4-HMAC-SHA256 Credential=a")]),
        (PrincipalRule::Auto, &[("authorization", "Negotiate x"), ("x-api-key", "a")]),
        (PrincipalRule::Auto, &[("authorization", "")]),
        (PrincipalRule::Auto, &[("authorization", "BearerX a")]),
        (PrincipalRule::Auto, &[("cookie", "session=1")]),
        (PrincipalRule::Auto, &[("authorization", "Bearer a"), ("authorization", "Bearer b")]),
        (PrincipalRule::Auto, &[("x-api-key", "a"), ("x-api-key", "b")]),
        (PrincipalRule::Header(HeaderName::from_static("x-user")), &[("x-user", "a"), ("x-user", "b")]),
        (PrincipalRule::Cookie("sid".into()), &[("cookie", "sid=1; sid=2")]),
        (PrincipalRule::Cookie("sid".into()), &[("cookie", "sid=1"), ("cookie", "sid=2")]),
    ] {
        let world = World::under(under(&rule), paid);
        let got = world.send(with(pay("k"), lines)).await;
        got.assert_problem(400, "principal-unknown");
        assert!(got.text().contains("`principal"), "{}", got.text());
        assert_eq!((world.effects(), world.records().await.len()), (0, 0), "{lines:?}");
    }
}

#[tokio::test]
async fn a_stranger_with_the_same_key_sees_what_a_fresh_key_would_show() {
    let echo = |seen: Seen| async move {
        (StatusCode::CREATED, [("x-seen", seen.body.len().to_string())], seen.body)
    };
    let alice = |it: Ask| it.header("authorization", "Bearer alice");
    let bob = |it: Ask| it.header("authorization", "Bearer bob");
    for other_body in [false, true] {
        let world = World::new(echo);
        world.send(alice(pay("k"))).await.assert_first(201);
        let ask = |key| if other_body { pay_other(key) } else { pay(key) };
        let met = world.send(bob(ask("k"))).await;
        let fresh = world.send(bob(ask("fresh"))).await;
        met.assert_first(201);
        assert_eq!((met.status, met.headers, met.body), (fresh.status, fresh.headers, fresh.body));
        // Both have their own record from now on.
        world.send(alice(pay("k"))).await.assert_replay(201);
        world.send(bob(ask("k"))).await.assert_replay(201);
        assert_eq!(world.effects(), 3);
    }
}

#[tokio::test]
async fn a_replay_is_served_without_asking_the_application() {
    let revoked = Arc::new(AtomicBool::new(false));
    let knows = Arc::clone(&revoked);
    let world = World::new(move |_| {
        let is_revoked = knows.load(Ordering::Relaxed);
        async move { if is_revoked { StatusCode::UNAUTHORIZED } else { StatusCode::CREATED } }
    });
    let sent = |key| pay(key).header("authorization", "Bearer alice");
    world.send(sent("k")).await.assert_first(201);
    revoked.store(true, Ordering::Relaxed);
    world.send(sent("k")).await.assert_replay(201);
    assert_eq!(world.effects(), 1);
    assert_eq!(world.send(sent("l")).await.status, 401);
}

#[tokio::test]
async fn what_is_stored_of_a_credential_is_a_keyed_hash() {
    let world = World::new(paid);
    world.send(pay("k").header("authorization", "Bearer top-secret")).await.assert_first(201);
    world.send(pay("k").header("x-api-key", "top-secret")).await.assert_first(201);
    world.send(pay("k")).await.assert_first(201);
    let principals: Vec<_> = world.records().await.iter().map(|it| it.listing.principal).collect();
    assert_eq!(principals.iter().filter(|it| **it == Principal::ANONYMOUS).count(), 1);
    let other = World::new(paid);
    other.send(pay("k").header("authorization", "Bearer top-secret")).await.assert_first(201);
    let elsewhere = other.records().await[0].listing.principal;
    assert!(!principals.contains(&elsewhere), "another store hashes with another key");
    assert!(!format!("{:?}", world.records().await).contains("top-secret"));
}

/// A token that says it lives for so many seconds.
fn token(seconds: u64) -> String {
    use base64::Engine as _;
    let coded = |it: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(it);
    let claims = coded(format!(r#"{{"iat":1000,"exp":{}}}"#, 1000 + seconds));
    format!("Bearer {}.{claims}.{}", coded("{}".into()), coded("forged".into()))
}

#[tokio::test]
async fn a_route_whose_callers_tokens_end_before_its_answers_is_known() {
    let rule = |path: &str, principal: PrincipalRule| crate::world::route(&[], path, under(&principal));
    let routes = vec![
        rule("/bearer", PrincipalRule::Header(http::header::AUTHORIZATION)),
        rule("/cookie", PrincipalRule::Cookie("sid".into())),
        rule("/quiet", PrincipalRule::Auto),
    ];
    let world = World::routed(onceward_http::Routes::new(routes, HttpPolicy::default()), paid);
    let day = 24 * 3600;
    let mut nth = 0;
    let mut call = |path: &str, authorization: &str| {
        nth += 1;
        world.clock.advance(std::time::Duration::from_secs(1));
        let ask = crate::world::post(path).key(&format!("k{nth}"));
        world.send(ask.header("authorization", authorization).header("cookie", "sid=1"))
    };
    for (path, authorization) in [
        ("/quiet", "Bearer opaque"),
        ("/quiet", &*token(day)),
        ("/quiet", "Basic dTpw"),
        ("/cookie", &*token(60)),
    ] {
        call(path, authorization).await.assert_first(201);
    }
    assert_eq!(world.layer.short_tokens(), []);
    for (path, seconds) in [("/a", 3600), ("/a", 900), ("/a", 1800), ("/bearer", day - 1)] {
        call(path, &token(seconds)).await.assert_first(201);
    }
    let seen: Vec<_> = world
        .layer
        .short_tokens()
        .into_iter()
        .map(|it| (it.route, it.shortest.as_secs(), it.retention.as_secs()))
        .collect();
    assert_eq!(seen, [("/bearer".to_owned(), day - 1, day), ("default".to_owned(), 900, day)]);
}

#[tokio::test]
async fn one_token_a_second_is_looked_at() {
    let world = World::new(paid);
    for seconds in [900, 60, 30] {
        world.send(pay("k").header("authorization", token(seconds))).await.assert_first(201);
    }
    let shortest = || world.layer.short_tokens()[0].shortest.as_secs();
    assert_eq!(shortest(), 900);
    world.clock.advance(std::time::Duration::from_secs(1));
    world.send(pay("k").header("authorization", token(30))).await.assert_replay(201);
    assert_eq!(shortest(), 30);
}
