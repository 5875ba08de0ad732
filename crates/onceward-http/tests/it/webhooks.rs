//! Senders that know nothing of `Idempotency-Key`: the id of the event is the key, and the signature says who sent it.

use http::StatusCode;
use onceward_core::Clock as _;
use onceward_http::{Compare, HttpPolicy, KeyRule, Told};
use onceward_testkit::Fault;
use onceward_webhook::{Scheme, Secret, Secrets, Verifier};

use crate::world::{Ask, World, paid, paid_after, pay, policy, post, turnstile};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn by(from: &str) -> HttpPolicy {
    policy(|it| it.key_from = from.parse().unwrap())
}

fn signed_by_standard() -> HttpPolicy {
    policy(|it| {
        it.key_from = "header:webhook-id".parse().unwrap();
        let secrets = Secrets::parse(&Scheme::Standard, SECRET).unwrap();
        it.verify = Some(Verifier::new(Scheme::Standard, secrets));
    })
}

fn event(id: &str, body: &str) -> Ask {
    post("/hooks").header("webhook-id", id).body(body.to_owned())
}

/// An event that was signed `ago` seconds before the clock of `world`.
fn signed(world: &World, secret: &str, id: &str, body: &str, ago: u64) -> Ask {
    let seconds = world.clock.wall().as_millis() / 1000 - ago;
    let signature = Secret::standard(secret).unwrap().sign(id, seconds, body.as_bytes());
    event(id, body).header("webhook-timestamp", seconds.to_string()).header("webhook-signature", signature)
}

#[tokio::test]
async fn the_id_of_an_event_is_its_key_wherever_the_sender_has_it() {
    let json = |body: &str| post("/hooks").body(body.to_owned());
    for (from, first, repeat, next) in [
        ("header:webhook-id", event("e1", "x"), event("e1", "x"), event("e2", "x")),
        ("json:/id", json(r#"{"id":"e1"}"#), json(r#"{"id":"e1"}"#), json(r#"{"id":"e2"}"#)),
        ("json:/data/0", json(r#"{"data":[7]}"#), json(r#"{"data":[7]}"#), json(r#"{"data":[8]}"#)),
    ] {
        let world = World::under(by(from), paid);
        world.send(first).await.assert_first(201);
        world.send(repeat).await.assert_replay(201);
        world.send(next).await.assert_first(201);
        assert_eq!(world.effects(), 2, "{from}");
    }
}

#[tokio::test]
async fn the_body_arrives_as_it_came_where_it_was_read_for_its_key() {
    let world = World::under(by("json:/id"), paid);
    let body = "{ \"id\" : \"e1\", \"amount\": 1.10 }\n";
    world.send(post("/hooks").body(body)).await.assert_first(201);
    assert_eq!(world.last().body, body);
    // And the key where the service behind looks for keys, whatever the sender had there.
    world.send(post("/hooks").key("forged").body(r#"{"id":"e2"}"#)).await.assert_first(201);
    assert_eq!(world.last().header("idempotency-key"), Some("e2"));
}

#[tokio::test]
async fn an_event_without_its_id_is_refused_where_only_the_body_can_tell() {
    let world = World::under(by("json:/id"), paid);
    for (body, code) in [
        ("{}", "key-missing"),
        (r#"{"id":null}"#, "key-missing"),
        (r#"{"id":1.5}"#, "key-missing"),
        (r#"{"id":{}}"#, "key-missing"),
        ("", "key-invalid"),
        ("id=e1", "key-invalid"),
        (r#"{"id":""}"#, "key-invalid"),
        (r#"{"id":"é"}"#, "key-invalid"),
        (r#"{"id":"a b"}"#, "key-invalid"),
    ] {
        world.send(post("/hooks").body(body)).await.assert_problem(400, code);
    }
    // The header that the route does not name is none of its keys.
    world.send(post("/hooks").key("k").body("{}")).await.assert_problem(400, "key-missing");
    assert_eq!((world.effects(), world.records().await.len()), (0, 0));
}

#[tokio::test]
async fn a_header_that_is_the_key_comes_once_and_may_be_missing_only_where_keys_are_optional() {
    let world = World::under(by("header:webhook-id"), paid);
    world.send(event("e1", "x").header("webhook-id", "e2")).await.assert_problem(400, "key-invalid");
    let passed = world.send(post("/hooks").key("k")).await;
    assert_eq!(passed.told(), Told::PassThrough);
    let required = HttpPolicy { key: KeyRule::Required, ..by("header:webhook-id") };
    let world = World::under(required, paid);
    let refused = world.send(post("/hooks").key("k")).await;
    refused.assert_problem(400, "key-missing");
    assert!(refused.text().contains("webhook-id"), "{}", refused.text());
}

#[tokio::test]
async fn what_is_not_signed_is_refused_and_leaves_nothing() {
    let world = World::under(signed_by_standard(), paid);
    let tampered = signed(&world, SECRET, "e1", "x", 0).body("y");
    let renamed = signed(&world, SECRET, "e1", "x", 0);
    for ask in [
        event("e1", "x"),
        tampered,
        signed(&world, OTHER, "e1", "x", 0),
        signed(&world, SECRET, "e1", "x", 301),
        // Without an id there is no key, and no way round.
        post("/hooks").body("x"),
        renamed.header("webhook-id", "e2"),
        pay("k"),
    ] {
        let refused = world.send(ask).await;
        assert!(matches!(refused.status, StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST), "{refused:?}");
        assert_eq!(refused.told(), Told::Refused);
    }
    assert_eq!((world.effects(), world.records().await.len()), (0, 0));
    world.send(signed(&world, SECRET, "e1", "x", 0)).await.assert_first(201);
    // The sender signs each try anew.
    world.send(signed(&world, SECRET, "e1", "x", 299)).await.assert_replay(201);
    world.send(signed(&world, OTHER, "e1", "x", 0)).await.assert_problem(403, "signature-invalid");
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn what_is_not_signed_does_not_pass_while_the_store_is_away_either() {
    let fail_open = HttpPolicy { fail_open: true, ..signed_by_standard() };
    let world = World::under(fail_open, paid);
    world.store.down(Fault::Refused);
    world.send(signed(&world, OTHER, "e1", "x", 0)).await.assert_problem(403, "signature-invalid");
    let run = world.send(signed(&world, SECRET, "e1", "x", 0)).await;
    assert_eq!((run.told(), world.effects()), (Told::FailedOpen, 1));
}

#[tokio::test]
async fn a_repeat_of_a_running_event_is_not_told_that_it_is_done() {
    let gate = turnstile();
    let world = World::under(by("json:/id"), paid_after(&gate));
    let first = world.send_aside(post("/hooks").body(r#"{"id":"e1"}"#));
    world.until_effects(1).await;
    world.send(post("/hooks").body(r#"{"id":"e1"}"#)).await.assert_problem(409, "in-progress");
    crate::world::let_through(&gate);
    first.got().await.assert_first(201);
    world.send(post("/hooks").body(r#"{"id":"e1"}"#)).await.assert_replay(201);
}

#[tokio::test]
async fn an_id_with_another_body_is_refused_unless_the_route_says_that_bodies_do_not_count() {
    let (first, then) = (r#"{"id":"e1","tries":0}"#, r#"{"id":"e1","tries":1}"#);
    let world = World::under(by("json:/id"), paid);
    world.send(post("/hooks").body(first)).await.assert_first(201);
    world.send(post("/hooks").body(then)).await.assert_problem(422, "key-reused");
    let world = World::under(HttpPolicy { compare: Compare::Nothing, ..by("json:/id") }, paid);
    world.send(post("/hooks").body(first)).await.assert_first(201);
    world.send(post("/hooks").body(then)).await.assert_replay(201);
    // Another path is another operation all the same.
    world.send(post("/other").body(then)).await.assert_first(201);
}
