//! The problem bodies as they go over the wire: a stored text, so that no change of them goes unnoticed.

use std::fmt::Write as _;
use std::time::Duration;

use http_body_util::BodyExt as _;
use onceward_http::{KeySource, Problem};
use onceward_webhook::BadSignature;

use crate::world::{World, let_through, paid_after, pay, pay_other, required, turnstile};

fn every() -> Vec<Problem> {
    vec![
        Problem::KeyMissing(KeySource::IdempotencyKey),
        Problem::KeyMissing("header:webhook-id".parse().unwrap()),
        Problem::KeyMissing("json:/data/id".parse().unwrap()),
        Problem::SignatureInvalid(BadSignature::NotOurs),
        Problem::KeyInvalid("The Idempotency-Key is empty; send 1 to 255 visible ASCII characters"),
        Problem::RequestAmbiguous("The request has more than one Host line; send one"),
        Problem::PrincipalUnknown("Set `principal` for this route"),
        Problem::RequestIncomplete,
        Problem::InProgress { retry_after: Duration::from_secs(1) },
        Problem::InProgress { retry_after: Duration::from_millis(1) },
        Problem::InProgress { retry_after: Duration::from_millis(2001) },
        Problem::Unresolved,
        Problem::AnswerNotKept,
        Problem::AnswerGone,
        Problem::RequestTooLarge { max_bytes: 1 << 20 },
        Problem::GrpcUnsupported,
        Problem::KeyReused,
        Problem::HeaderTooLarge,
        Problem::RequestTimeout,
        Problem::TooManyInFlight,
        Problem::Overloaded,
        Problem::UpstreamUnreachable,
        Problem::AnswerTooLarge,
        Problem::StoreUnavailable,
        Problem::Draining,
        Problem::AnswerNotStored,
        Problem::OutcomeUnresolved,
    ]
}

#[tokio::test]
async fn the_problem_bodies_are_as_stored() {
    let mut shown = String::new();
    for problem in every() {
        let response = problem.response();
        assert_eq!(response.status(), problem.status());
        writeln!(shown, "{}", response.status()).unwrap();
        let mut lines: Vec<_> = response.headers().iter().collect();
        lines.sort_by_key(|it| it.0.as_str());
        for (name, value) in lines {
            writeln!(shown, "{name}: {}", value.to_str().unwrap()).unwrap();
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["type"], format!("urn:onceward:error:{}", problem.code()));
        writeln!(shown, "{json:#}\n").unwrap();
    }
    let stored = include_str!("problems.txt");
    if shown != stored {
        let fresh = concat!(env!("CARGO_TARGET_TMPDIR"), "/problems.txt");
        std::fs::write(fresh, &shown).unwrap();
        panic!("the problem bodies changed; compare tests/it/problems.txt with {fresh}");
    }
}

#[test]
fn every_code_of_the_source_is_among_the_stored_bodies() {
    let source = include_str!("../../src/problem.rs");
    let arms = source.split("pub fn code").nth(1).unwrap().split("pub fn status").next().unwrap();
    let codes: Vec<_> = arms.split("=> \"").skip(1).map(|it| it.split('"').next().unwrap()).collect();
    assert!(codes.len() >= 18, "{codes:?}");
    for code in codes {
        assert!(every().iter().any(|it| it.code() == code), "{code} has no stored body");
    }
}

#[test]
fn every_problem_has_a_page() {
    let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for problem in every() {
        let page = pages.join(problem.code()).with_extension("md");
        let text = std::fs::read_to_string(&page).unwrap_or_default();
        let told = format!("**{}**", problem.status().as_u16());
        assert!(text.contains(&told), "{} must say {told}", page.display());
    }
}

#[tokio::test]
async fn a_refusal_says_nothing_of_the_first_request() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let first = world.send_aside(pay("secret-key").header("x-trace", "first-trace"));
    world.until_effects(1).await;
    let busy = world.send(pay("secret-key")).await;
    let misused = world.send(pay_other("secret-key")).await;
    let_through(&gate);
    first.got().await.assert_first(201);
    let misused_later = world.send(pay_other("secret-key")).await;
    world.clock.advance(Duration::from_secs(25 * 3600));
    let gone = world.send(pay("secret-key")).await;
    let misused_last = world.send(pay_other("secret-key")).await;
    busy.assert_problem(409, "in-progress");
    gone.assert_problem(410, "answer-gone");
    for got in [&busy, &gone, &misused, &misused_later, &misused_last] {
        for secret in ["secret-key", "first-trace", "amount", "12", "paid", "/payments", "api.test"] {
            assert!(!got.text().contains(secret), "{secret}: {}", got.text());
        }
        assert_eq!(got.header("cache-control"), Some("no-store"));
        let names: Vec<_> = got.headers.keys().map(http::HeaderName::as_str).collect();
        assert!(
            names
                .iter()
                .all(|it| ["content-type", "content-length", "cache-control", "retry-after"].contains(it)),
            "{names:?}"
        );
    }
    // A misuse is told alike in every state of the first.
    for later in [&misused_later, &misused_last] {
        assert_eq!((&misused.headers, &misused.body), (&later.headers, &later.body));
    }
}

#[tokio::test]
async fn a_problem_is_told_as_one_over_the_wire() {
    let world = World::under(required(), crate::world::paid);
    let server = crate::wire::Server::of(&world).await;
    let got =
        server.say("POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{got}");
    assert!(got.contains("content-type: application/problem+json\r\n"), "{got}");
    let body = got.split("\r\n\r\n").nth(1).unwrap();
    assert!(got.contains(&format!("content-length: {}\r\n", body.len())), "{got}");
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["type"], "urn:onceward:error:key-missing");
}
