//! What makes two requests the same operation, and who calls.

use super::Lines;
use super::world::*;

#[tokio::test]
async fn the_host_counts_in_lower_case_and_without_the_default_port() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("k").host("api.test")).await.assert_first(201);
        for same in ["API.Test", "api.test:80", "Api.Test:80"] {
            world.send(pay("k").host(same)).await.assert_replay(201);
        }
        for other in ["api.test:8080", "api.test.evil", "other"] {
            world.send(pay("k").host(other)).await.assert_first(201);
        }
        assert_eq!(world.effects(), 4);
    })
    .await;
}

#[tokio::test]
async fn host_and_authority_name_one_host_so_callers_of_both_protocols_meet_at_one_record() {
    each(async |pair| {
        let other = if pair.front == Wire::H1 { Wire::H2c } else { Wire::H1 };
        let world = World::start(pair, "", paid).await;
        world.send(pay("k")).await.assert_first(201);
        world.caller.speaking(other).send(pay("k").host("API.test:80")).await.assert_replay(201);
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_absolute_target_counts_before_the_host_line() {
    let world = World::start(H1, "", paid).await;
    world.send(pay("k")).await.assert_first(201);
    let mut raw = world.caller.raw().await;
    raw.send("POST http://api.test/payments HTTP/1.1\r\nhost: api.test\r\nidempotency-key: k\r\n").await;
    raw.send("content-length: 13\r\n\r\n{\"amount\":12}").await;
    assert!(raw.read_until("paid").await.contains("idempotent-replayed: true\r\n"));
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn method_and_path_exactly_as_sent_are_the_identity() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for (method, path) in [
            ("POST", "/payments"),
            ("PATCH", "/payments"),
            ("POST", "/%70ayments"),
            ("POST", "/payments/"),
            ("POST", "/x/../payments"),
        ] {
            world.send(ask(method, path).key("k")).await.assert_first(201);
        }
        world.send(post("/payments").key("k")).await.assert_replay(201);
        assert_eq!(world.effects(), 5);
    })
    .await;
}

#[tokio::test]
async fn routes_choose_policy_and_never_identity() {
    let world = World::start(H1, "", paid).await;
    world.send(pay("k")).await.assert_first(201);
    let routes = "[[route]]\npath = \"/payments\"\nkey = \"required\"\nname = \"pay\"\nretention = \"1h\"\n";
    let again = World::over(world.store, world.origin, H1, routes, |_| {}).await;
    again.send(pay("k")).await.assert_replay(201);
}

/// Whether two requests that differ in these lines are one caller's.
async fn check(principal: &str, cases: &[(Lines, Lines, bool)]) {
    each(async |pair| {
        let toml = format!("[policy]\nprincipal = \"{principal}\"\n");
        let world = World::start(pair, &toml, paid).await;
        for (at, (first, second, is_same)) in cases.iter().enumerate() {
            let key = format!("k{at}");
            world.send(pay(&key).lines(first)).await.assert_first(201);
            let got = world.send(pay(&key).lines(second)).await;
            assert_eq!((got.status.as_u16(), got.is_replay()), (201, *is_same), "{first:?} {second:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn auto_tells_callers_apart_by_authorization_and_else_by_api_key() {
    check(
        "auto",
        &[
            (&[("authorization", "Bearer a")], &[("authorization", "bearer  a")], true),
            (&[("authorization", "Bearer a")], &[("authorization", "Bearer b")], false),
            (&[("authorization", "Basic a")], &[("authorization", "Bearer a")], false),
            (&[("x-api-key", "a")], &[("x-api-key", "a")], true),
            (&[("x-api-key", "a")], &[("x-api-key", "b")], false),
            (&[("authorization", "Bearer a"), ("x-api-key", "1")], &[("authorization", "Bearer a")], true),
            (&[], &[], true),
            (&[], &[("x-api-key", "a")], false),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_named_header_or_cookie_or_nothing_tells_callers_apart() {
    check("header:X-User", &[(&[("x-user", "a")], &[("x-user", "b")], false)]).await;
    check("header:X-User", &[(&[("x-user", "a"), ("cookie", "a=1")], &[("x-user", "a")], true)]).await;
    each(async |pair| {
        let world = World::start(pair, "[policy]\nprincipal = \"header:X-User\"\n", paid).await;
        let unnamed = pay("k").header("authorization", "Bearer a");
        world.send(unnamed).await.assert_problem(400, "principal-unknown");
    })
    .await;
    check("cookie:sid", &[(&[("cookie", "sid=1")], &[("cookie", "x=y; sid=1")], true)]).await;
    check("cookie:sid", &[(&[("cookie", "sid=1")], &[("cookie", "sid=2")], false)]).await;
    check("none", &[(&[("authorization", "Bearer a")], &[("cookie", "s=1")], true)]).await;
}

#[tokio::test]
async fn a_caller_that_cannot_be_worked_out_is_refused_and_the_setting_is_named() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for line in [("authorization", "Digest x"), ("authorization", "Token"), ("cookie", "sid=1")] {
            let got = world.send(pay("k").header(line.0, line.1)).await;
            got.assert_problem(400, "principal-unknown");
            assert!(got.json()["detail"].as_str().unwrap().contains("`principal"), "{got:?}");
        }
        assert_eq!(world.effects(), 0);
        // It is about operations only.
        world.send(ask("GET", "/").header("cookie", "sid=1")).await.assert_first(201);
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_served_without_asking_the_upstream() {
    each(async |pair| {
        let origin = Origin::start(paid).await;
        let world = World::before(origin, pair, "", |_| {}).await;
        let paying = || pay("k").header("authorization", "Bearer a");
        world.send(paying()).await.assert_first(201);
        // The credential may be revoked by now: nobody is there to say so.
        let nobody = Origin::elsewhere("127.0.0.1:9".parse().unwrap());
        let later = World::over(world.store, nobody, pair, "", |_| {}).await;
        later.send(paying()).await.assert_replay(201);
    })
    .await;
}
