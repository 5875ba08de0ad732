//! What web pages may read: our own answers as the policy says, the application's as it says itself.

use axum::response::IntoResponse as _;
use http::{HeaderMap, Method, StatusCode};
use onceward_http::{CorsPolicy, Outcome, Problem, Told};
use onceward_testkit::Fault;

use crate::world::{Ask, Got, Seen, World, ask, pay, policy};

const SHOP: &str = "https://shop.example";
const EVIL: &str = "https://evil.example";

type Lines = &'static [(&'static str, &'static str)];

/// An application that says this of origins, whoever asks.
fn saying(lines: Lines) -> World {
    World::new(move |_| async move {
        let mut response = (StatusCode::CREATED, "paid").into_response();
        for (name, value) in lines {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    })
}

/// What an answer says of origins: who may read, with credentials, which headers; and what it varies by.
fn said(headers: &HeaderMap) -> String {
    let of = |name| {
        let lines: Vec<_> = headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect();
        lines.join(", ")
    };
    let parts = [
        of("access-control-allow-origin"),
        of("access-control-allow-credentials"),
        of("access-control-expose-headers"),
        of("vary"),
    ];
    let known = ["origin", "credentials", "headers"];
    let others = headers.keys().filter(|it| it.as_str().starts_with("access-control-"));
    let others: Vec<_> =
        others.filter(|it| !known.iter().any(|known| it.as_str().ends_with(known))).collect();
    assert!(others.is_empty(), "{others:?}");
    parts.join(" | ")
}

fn from(sent: Ask, origin: &str) -> Ask {
    if origin.is_empty() { sent } else { sent.header("origin", origin) }
}

const OURS: &str = "idempotent-replayed, retry-after";

struct Case {
    policy: (&'static [&'static str], bool),
    application: Lines,
    origin: &'static str,
    first: &'static str,
    replay: &'static str,
    problem: &'static str,
}

/// A first run and a problem for the origin, and a replay for it of what the shop ran first.
async fn check(case: Case) {
    let Case { policy: (origins, credentials), application, origin, first, replay, problem } = case;
    let named = format!("{origins:?} {credentials} {application:?} {origin}");
    let fill = |text: &str| text.replace("OURS", OURS).replace("ORIGIN", origin);
    let world = saying(application);
    world.layer.set_cors(Some(CorsPolicy::new(origins.iter().copied(), credentials).unwrap()));

    let got = world.send(from(pay("k"), origin)).await;
    got.assert_first(201);
    assert_eq!(said(&got.headers), fill(first), "first run: {named}");

    world.send(from(pay("k2"), SHOP)).await.assert_first(201);
    for _ in 0..2 {
        let got = world.send(from(pay("k2"), origin)).await;
        got.assert_replay(201);
        assert_eq!(said(&got.headers), fill(replay), "replay: {named}");
    }

    for bad in ["a b", "c d"] {
        let got = world.send(from(pay(bad), origin)).await;
        got.assert_problem(400, "key-invalid");
        assert_eq!(said(&got.headers), fill(problem), "problem: {named}");
    }
}

#[tokio::test]
#[rustfmt::skip]
async fn our_answers_follow_the_policy_and_the_applications_stand() {
    const LIST: &[&str] = &["https://other.example", SHOP];
    const ANY: &[&str] = &["*"];
    const SILENT: Lines = &[];
    const SHOPS: Lines = &[
        ("access-control-allow-origin", SHOP), ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "X-Id, retry-after"), ("vary", "Accept, Origin"),
    ];
    const ANYBODYS: Lines = &[("access-control-allow-origin", "*"), ("access-control-expose-headers", "*"), ("vary", "Accept")];
    for case in [
        // An application without a word of origins: what it says stays unread, what we say follows the policy.
        Case { policy: (LIST, false), application: SILENT, origin: SHOP, first: " |  |  | ", replay: "ORIGIN |  | OURS | origin", problem: "ORIGIN |  | OURS | origin" },
        Case { policy: (LIST, true),  application: SILENT, origin: SHOP, first: " |  |  | ", replay: "ORIGIN | true | OURS | origin", problem: "ORIGIN | true | OURS | origin" },
        Case { policy: (ANY, false),  application: SILENT, origin: SHOP, first: " |  |  | ", replay: "* |  | OURS | ", problem: "* |  | OURS | " },
        Case { policy: (LIST, true),  application: SILENT, origin: EVIL, first: " |  |  | ", replay: " |  |  | origin", problem: " |  |  | origin" },
        Case { policy: (LIST, true),  application: SILENT, origin: "",   first: " |  |  | ", replay: " |  |  | origin", problem: " |  |  | origin" },
        Case { policy: (ANY, false),  application: SILENT, origin: EVIL, first: " |  |  | ", replay: "* |  | OURS | ", problem: "* |  | OURS | " },
        Case { policy: (ANY, false),  application: SILENT, origin: "",   first: " |  |  | ", replay: " |  |  | ", problem: " |  |  | " },
        Case { policy: (&[], true),   application: SILENT, origin: SHOP, first: " |  |  | ", replay: " |  |  | origin", problem: " |  |  | origin" },
        // An application that allows the shop.
        Case { policy: (LIST, true),  application: SHOPS, origin: SHOP, first: "ORIGIN | true | X-Id, retry-after, idempotent-replayed | Accept, Origin", replay: "ORIGIN | true | X-Id, retry-after, idempotent-replayed | Accept, Origin", problem: "ORIGIN | true | OURS | origin" },
        Case { policy: (LIST, false), application: SHOPS, origin: SHOP, first: "ORIGIN | true | X-Id, retry-after, idempotent-replayed | Accept, Origin", replay: "ORIGIN |  | X-Id, retry-after, idempotent-replayed | Accept, Origin", problem: "ORIGIN |  | OURS | origin" },
        Case { policy: (LIST, true),  application: SHOPS, origin: EVIL, first: "https://shop.example | true | X-Id, retry-after | Accept, Origin", replay: " |  |  | Accept, Origin", problem: " |  |  | origin" },
        Case { policy: (LIST, true),  application: SHOPS, origin: "",   first: "https://shop.example | true | X-Id, retry-after | Accept, Origin", replay: " |  |  | Accept, Origin", problem: " |  |  | origin" },
        Case { policy: (ANY, false),  application: SHOPS, origin: EVIL, first: "https://shop.example | true | X-Id, retry-after | Accept, Origin", replay: "* |  | X-Id, retry-after, idempotent-replayed | Accept, Origin", problem: "* |  | OURS | " },
        // An application that allows everybody everything; with credentials `*` would be a name like any other.
        Case { policy: (LIST, false), application: ANYBODYS, origin: SHOP, first: "* |  | * | Accept", replay: "ORIGIN |  | * | Accept, origin", problem: "ORIGIN |  | OURS | origin" },
        Case { policy: (LIST, true),  application: ANYBODYS, origin: SHOP, first: "* |  | * | Accept", replay: "ORIGIN | true | *, OURS | Accept, origin", problem: "ORIGIN | true | OURS | origin" },
        Case { policy: (LIST, true),  application: ANYBODYS, origin: EVIL, first: "* |  | * | Accept", replay: " |  |  | Accept, origin", problem: " |  |  | origin" },
    ] {
        check(case).await;
    }
}

#[tokio::test]
async fn without_a_policy_nothing_is_touched() {
    const LINES: Lines = &[
        ("access-control-allow-origin", EVIL),
        ("access-control-expose-headers", "X-Id"),
        ("access-control-max-age", "5"),
        ("vary", "Accept"),
    ];
    let world = saying(LINES);
    for nth in 0..2 {
        let got = world.send(from(pay("k"), SHOP)).await;
        assert_eq!(got.is_replay(), nth > 0);
        for (name, value) in LINES {
            assert_eq!(got.lines(name), [*value]);
        }
    }
    let got = world.send(from(pay("a b"), SHOP)).await;
    assert_eq!(said(&got.headers), " |  |  | ");
}

#[tokio::test]
async fn what_else_a_stored_answer_said_of_origins_is_not_repeated() {
    let world =
        saying(&[("access-control-allow-methods", "PUT"), ("access-control-max-age", "5"), ("etag", "1")]);
    world.layer.set_cors(Some(shop()));
    world.send(from(pay("k"), SHOP)).await.assert_first(201);
    let got = world.send(from(pay("k"), SHOP)).await;
    got.assert_replay(201);
    assert_eq!((got.header("access-control-max-age"), got.header("etag")), (None, Some("1")));
    assert_eq!(said(&got.headers), format!("{SHOP} | true | {OURS} | origin"));
}

fn shop() -> CorsPolicy {
    CorsPolicy::new([SHOP], true).unwrap()
}

async fn sent(world: &World, ask: Ask) -> (Told, String) {
    let got: Got = world.send(from(ask, SHOP)).await;
    (got.told(), said(&got.headers))
}

#[tokio::test]
async fn preflights_pass_through_untouched() {
    let world = saying(&[("access-control-allow-origin", SHOP)]);
    world.layer.set_cors(Some(shop()));
    let preflight = || {
        ask(Method::OPTIONS, "/payments")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "idempotency-key")
    };
    assert_eq!(sent(&world, preflight()).await, (Told::PassThrough, format!("{SHOP} |  |  | ")));
    assert_eq!(world.last().header("access-control-request-headers"), Some("idempotency-key"));
    assert_eq!(world.last().header("origin"), Some(SHOP));
    // Others that pass through are read like a first run.
    for method in [Method::GET, Method::OPTIONS, Method::POST] {
        assert_eq!(
            sent(&world, ask(method, "/payments")).await,
            (Told::PassThrough, format!("{SHOP} |  | {OURS} | "))
        );
    }
}

/// A service behind the layer that answers for Onceward, as the gateway does when no upstream is to be had.
#[tokio::test]
async fn a_problem_from_behind_is_ours_too() {
    let world = World::new(|seen: Seen| async move {
        let mut problem = match seen.header("x-case").unwrap() {
            "unreachable" => Problem::UpstreamUnreachable.response(),
            _ => Problem::Overloaded.response(),
        };
        problem.extensions_mut().insert(Outcome::Release);
        problem.map(axum::body::Body::new)
    });
    world.layer.set_cors(Some(shop()));
    let dressed = format!("{SHOP} | true | {OURS} | origin");
    for case in ["unreachable", "overloaded"] {
        let operation = sent(&world, pay("k").header("x-case", case)).await;
        assert_eq!(operation, (Told::Released, dressed.clone()));
        let passing = sent(&world, ask(Method::GET, "/").header("x-case", case)).await;
        assert_eq!(passing, (Told::PassThrough, dressed.clone()));
    }
    // An application's answer with the very same status is not.
    let world = World::new(|_| async { (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]) });
    world.layer.set_cors(Some(shop()));
    assert_eq!(sent(&world, pay("k")).await, (Told::Released, " |  |  | ".to_owned()));
}

#[tokio::test]
async fn every_kind_of_problem_can_be_read() {
    let world = World::under(policy(|it| it.fail_open = false), |_| async { panic!("on cue") as () });
    world.layer.set_cors(Some(shop()));
    let dressed = format!("{SHOP} | true | {OURS} | origin");
    assert_eq!(sent(&world, pay("k")).await, (Told::Unknown, dressed.clone()));
    assert_eq!(sent(&world, pay("k")).await, (Told::Unresolved, dressed.clone()));
    assert_eq!(sent(&world, crate::world::pay_other("k")).await, (Told::Mismatch, dressed.clone()));
    world.store.down(Fault::Refused);
    assert_eq!(sent(&world, pay("k3")).await, (Told::Unavailable, dressed.clone()));
    world.layer.drain();
    assert_eq!(sent(&world, pay("k4")).await, (Told::Unavailable, dressed.clone()));
    let mut answer = HeaderMap::new();
    shop().dress_own(&from(pay("k"), SHOP).request().headers().clone(), &mut answer);
    assert_eq!(said(&answer), dressed, "in front of the layer");
}

#[tokio::test]
async fn two_origin_lines_are_nobodys() {
    let world = saying(&[("access-control-allow-origin", SHOP)]);
    world.layer.set_cors(Some(shop()));
    let got = world.send(pay("a b").header("origin", SHOP).header("origin", EVIL)).await;
    assert_eq!(said(&got.headers), " |  |  | origin");
    let got = world.send(pay("k").header("origin", SHOP).header("origin", EVIL)).await;
    assert_eq!(said(&got.headers), format!("{SHOP} |  |  | "));
}

#[tokio::test]
async fn a_changed_policy_holds_for_the_next_answer_also_of_what_is_stored() {
    let world = saying(&[]);
    world.layer.set_cors(Some(shop()));
    world.send(from(pay("k"), SHOP)).await.assert_first(201);
    world.layer.set_cors(Some(CorsPolicy::new([EVIL], false).unwrap()));
    assert_eq!(sent(&world, pay("k")).await.1, " |  |  | origin");
    world.layer.set_cors(None);
    assert_eq!(sent(&world, pay("k")).await.1, " |  |  | ");
}
