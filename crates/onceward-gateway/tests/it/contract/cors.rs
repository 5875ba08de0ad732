//! Browsers through the whole gateway: who may read what, whoever asked first.

use super::Lines;
use super::origin::pieces;
use super::world::*;

const CORS: &str =
    "[cors]\norigins = [\"https://shop.example\", \"https://till.example\"]\ncredentials = true\n";
const REQUIRED: &str = "[policy]\nkey = \"required\"\n";
const SHOP: &str = "https://shop.example";
const TILL: &str = "https://till.example";
const OTHER: &str = "https://other.example";
const ALLOW: &str = "access-control-allow-origin";
const EXPOSE: &str = "access-control-expose-headers";

fn from(ask: Ask, origin: &str) -> Ask {
    ask.header("origin", origin)
}

fn words(got: &Got, name: &str) -> String {
    got.lines(name).join(", ").to_ascii_lowercase()
}

/// Whether a page of `origin` may read this answer of ours, and what goes with that.
#[track_caller]
fn assert_own(got: &Got, origin: &str) {
    let is_allowed = origin != OTHER;
    assert_eq!(got.lines(ALLOW), if is_allowed { vec![origin] } else { vec![] }, "{got:?}");
    let exposes = ["idempotent-replayed", "retry-after"].map(|it| words(got, EXPOSE).contains(it));
    assert_eq!(exposes, [is_allowed; 2], "{got:?}");
    assert_eq!(got.header("access-control-allow-credentials"), is_allowed.then_some("true"), "{got:?}");
    assert!(words(got, "vary").contains("origin"), "{got:?}");
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_problems_and_no_other_may() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, &format!("{CORS}{REQUIRED}"), paid_after(&gate)).await;
        let running = world.send_aside(pay("k"));
        until(|| world.effects() == 1).await;
        for origin in [SHOP, TILL, OTHER] {
            for (ask, status, code) in [
                (post("/payments"), 400, "key-missing"),
                (pay(""), 400, "key-invalid"),
                (pay("k"), 409, "in-progress"),
                (pay_other("k"), 422, "key-reused"),
            ] {
                let got = world.send(from(ask, origin)).await;
                got.assert_problem(status, code);
                assert_own(&got, origin);
            }
        }
        gate.add_permits(1);
        running.got().await.assert_first(201);
    })
    .await;
}

#[tokio::test]
async fn a_replay_says_who_may_read_it_anew_and_never_who_could_at_first() {
    each(async |pair| {
        // The application allows whoever asks, as many do.
        let echo = |seen: Seen| async move {
            let mut response = reply(201, &[("access-control-expose-headers", "X-Receipt")], "paid")?;
            let origin = seen.head.headers.get("origin").cloned();
            origin.map(|it| response.headers_mut().insert(ALLOW, it));
            Ok(response)
        };
        let world = World::start(pair, CORS, echo).await;
        let first = world.send(from(pay("k"), OTHER)).await;
        first.assert_first(201);
        assert_eq!(first.lines(ALLOW), [OTHER]);
        for origin in [SHOP, TILL] {
            let again = world.send(from(pay("k"), origin)).await;
            again.assert_replay(201);
            assert_own(&again, origin);
            assert!(words(&again, EXPOSE).contains("x-receipt"), "{again:?}");
        }
        // Not even the first caller's origin, which only the application allowed.
        for ask in [from(pay("k"), OTHER), pay("k")] {
            let again = world.send(ask).await;
            again.assert_replay(201);
            assert_own(&again, OTHER);
        }
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_first_answer_is_allowed_by_the_application_alone() {
    each(async |pair| {
        let world = World::start(pair, CORS, paid).await;
        let first = world.send(from(pay("silent"), SHOP)).await;
        first.assert_first(201);
        assert_eq!((first.header(ALLOW), first.header(EXPOSE)), (None, None));
        let said: Lines = &[(ALLOW, SHOP)];
        let world = World::start(pair, CORS, always(201, said, b"paid")).await;
        for (origin, gains) in [(SHOP, true), (TILL, false)] {
            let first = world.send(from(pay(origin), origin)).await;
            first.assert_first(201);
            assert_eq!(first.lines(ALLOW), [SHOP]);
            assert_eq!(words(&first, EXPOSE).contains("idempotent-replayed"), gains, "{first:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_preflight_is_the_applications_to_answer() {
    each(async |pair| {
        let said: Lines = &[(ALLOW, SHOP), ("access-control-allow-headers", "idempotency-key")];
        let world = World::start(pair, &format!("{CORS}{REQUIRED}"), always(204, said, b"")).await;
        let preflight = ask("OPTIONS", "/payments")
            .header("origin", SHOP)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "idempotency-key");
        let got = world.send(preflight).await;
        got.assert_first(204);
        assert_eq!((got.lines(ALLOW), got.header(EXPOSE)), (vec![SHOP], None));
        assert_eq!(got.header("access-control-allow-headers"), Some("idempotency-key"));
        let seen = world.origin.last();
        assert_eq!(seen.header("access-control-request-method"), Some("POST"));
        assert_eq!((world.effects(), world.claims()), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn without_the_setting_nothing_is_added_anywhere() {
    let world = World::start(H1, REQUIRED, paid).await;
    for ask in [post("/payments"), pay("k"), pay("k"), pay_other("k").body(pieces(&["1", "2"]))] {
        let got = world.send(from(ask, SHOP)).await;
        assert!(!got.headers.keys().any(|it| it.as_str().starts_with("access-control-")), "{got:?}");
        assert_eq!(got.header("vary"), None);
    }
}

#[tokio::test]
async fn a_reload_changes_who_may_read() {
    let origins = |it: &str| format!("upstream.urls = [\"{{url}}\"]\ncors.origins = [{it:?}]\n");
    let file = std::sync::Arc::new(std::sync::Mutex::new(origins(SHOP)));
    let world = World::reloadable(Origin::start(paid).await, &file).await;
    world.send(pay("k")).await.assert_first(201);
    let allowed = async |origin| world.send(from(pay("k"), origin)).await.header(ALLOW).map(str::to_owned);
    assert_eq!((allowed(SHOP).await.as_deref(), allowed(TILL).await), (Some(SHOP), None));
    *file.lock().unwrap() = origins(TILL);
    assert_eq!(world.reload().await.status, 200);
    assert_eq!((allowed(SHOP).await, allowed(TILL).await.as_deref()), (None, Some(TILL)));
}
