//! A replay is the first answer again.

use bytes::Bytes;
use http::{HeaderMap, Response};
use onceward_http::Body;

use super::Lines;
use super::world::*;

const RICH: Lines = &[
    ("set-cookie", "a=1; Path=/"),
    ("set-cookie", "b=2; HttpOnly"),
    ("location", "/payments/1"),
    ("etag", "\"v1\""),
    ("link", "</a>; rel=next"),
    ("link", "</b>; rel=prev"),
    ("content-type", "application/json"),
    ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
];

#[tokio::test]
async fn every_stored_line_comes_back_in_order_with_the_same_length_and_the_marker() {
    each(async |pair| {
        let world = World::start(pair, "", always(201, RICH, b"{\"id\":1}")).await;
        let first = world.send(pay("k")).await;
        first.assert_first(201);
        let again = world.send(pay("k")).await;
        again.assert_replay(201);
        for (name, _) in RICH.iter().filter(|it| it.0 != "date") {
            let expected: Vec<_> = RICH.iter().filter(|it| it.0 == *name).map(|it| it.1).collect();
            assert_eq!(first.lines(name), expected);
            assert_eq!(again.lines(name), expected);
        }
        assert_eq!((first.lines("content-length"), again.lines("content-length")), (vec!["8"], vec!["8"]));
        assert_eq!(again.lines("idempotent-replayed"), ["true"]);
        assert_eq!(first.body, again.body);
        assert_eq!(first.header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        // Our server stamps each answer with a time of its own; the one of the first run never comes back.
        assert_ne!(again.header("date"), first.header("date"));
        // Nothing else was added or lost.
        let names = |it: &Got| {
            let mut names: Vec<_> = it.headers.keys().map(ToString::to_string).collect();
            names.retain(|it| it != "date" && it != "idempotent-replayed");
            names.sort();
            names
        };
        assert_eq!(names(&first), names(&again));
    })
    .await;
}

#[tokio::test]
async fn status_and_body_come_back_byte_for_byte() {
    let cases: &[(u16, Lines, &'static [u8])] = &[
        (200, &[], b"\x00\xff\xfe\r\n\x00"),
        (200, &[], b""),
        (201, &[("content-type", "application/json")], b"false"),
        (204, &[], b""),
        (302, &[("location", "/x")], b""),
        (304, &[("etag", "\"a\"")], b""),
        (404, &[("content-type", "application/problem+json")], br#"{"status":404,"type":"x"}"#),
        (500, &[], b"boom"),
    ];
    each(async |pair| {
        for (status, lines, body) in cases {
            let world = World::start(pair, "", always(*status, lines, body)).await;
            let first = world.send(pay("k")).await;
            let again = world.send(pay("k")).await;
            again.assert_replay(*status);
            assert_eq!((first.status, first.is_replay()), (again.status, false));
            assert_eq!((&first.body, &again.body[..]), (&again.body, *body));
            assert_eq!(first.lines("content-length"), again.lines("content-length"), "{status}");
            assert_eq!(world.effects(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn trailers_come_back() {
    each(async |pair| {
        let handler = |_| async {
            let trailers = HeaderMap::from_iter([
                ("x-sum".parse().unwrap(), "7".parse().unwrap()),
                ("x-sum".parse().unwrap(), "8".parse().unwrap()),
            ]);
            let mut response = Response::new(Body::whole(Bytes::from_static(b"paid"), Some(trailers)));
            response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            Ok(response)
        };
        let world = World::start(pair, "", handler).await;
        for is_replay in [false, true] {
            let got = world.send(pay("k").header("te", "trailers")).await;
            assert_eq!((got.is_replay(), &got.body[..]), (is_replay, b"paid".as_slice()));
            let lines = got.trailers.unwrap();
            assert_eq!(lines.get_all("x-sum").iter().collect::<Vec<_>>(), ["7", "8"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_the_same_in_whatever_protocol_it_is_asked_for() {
    each(async |pair| {
        let other = if pair.front == Wire::H1 { Wire::H2c } else { Wire::H1 };
        let world = World::start(pair, "", always(201, RICH, b"\x00\xff")).await;
        world.send(pay("k")).await.assert_first(201);
        let (same, crossed) = (world.send(pay("k")).await, world.caller.speaking(other).send(pay("k")).await);
        crossed.assert_replay(201);
        let lines = |it: &Got| {
            let mut lines: Vec<_> = it.headers.iter().map(|it| format!("{}: {:?}", it.0, it.1)).collect();
            lines.retain(|it| !it.starts_with("date: "));
            lines.sort();
            lines
        };
        assert_eq!((lines(&same), &same.body), (lines(&crossed), &crossed.body));
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_same_bytes_go_over_the_wire_but_for_marker_and_date() {
    let world = World::start(H1, "", always(201, RICH, b"{\"id\":1}")).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        let mut raw = world.caller.raw().await;
        raw.send("POST /p HTTP/1.1\r\nhost: a\r\nidempotency-key: k\r\nconnection: close\r\n\r\n").await;
        let all = raw.read_to_end().await;
        let kept: Vec<_> = all
            .split("\r\n")
            .filter(|it| !it.starts_with("date: ") && !it.starts_with("idempotent-replayed: "))
            .map(str::to_owned)
            .collect();
        said.push(kept.join("\r\n"));
    }
    assert!(said[0].ends_with("\r\n\r\n{\"id\":1}"), "{}", said[0]);
    assert_eq!((&said[0], &said[0]), (&said[1], &said[2]));
}

#[tokio::test]
async fn http_1_0_gets_first_answer_and_replay_too() {
    let world = World::start(H1, "", paid).await;
    for is_replay in [false, true] {
        let mut raw = world.caller.raw().await;
        raw.send("POST /p HTTP/1.0\r\nhost: a\r\nidempotency-key: k\r\ncontent-length: 3\r\n\r\npay").await;
        let said = raw.read_to_end().await;
        assert!(said.starts_with("HTTP/1.0 201 ") && said.ends_with("\r\n\r\npaid"), "{said}");
        assert_eq!(said.contains("idempotent-replayed: true\r\n"), is_replay);
    }
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn what_belongs_to_one_connection_is_never_replayed() {
    let answer = concat!(
        "HTTP/1.1 201 Created\r\nconnection: keep-alive, X-Hop\r\nx-hop: 1\r\nkeep-alive: timeout=60\r\n",
        "proxy-connection: keep-alive\r\nupgrade: h3\r\nproxy-authenticate: Basic\r\netag: \"1\"\r\n",
        "content-length: 4\r\n\r\npaid"
    );
    for front in [Wire::H1, Wire::H2c] {
        let scripted = crate::scripted::Scripted::answering(answer).await;
        let pair = Pair { front, ..H1 };
        let world = World::before(Origin::elsewhere(scripted.addr), pair, "", |_| {}).await;
        for _ in 0..2 {
            let got = world.send(pay("k")).await;
            for name in ["connection", "x-hop", "keep-alive", "proxy-connection", "upgrade"] {
                assert_eq!(got.header(name), None);
            }
            assert_eq!(got.header("etag"), Some("\"1\""));
        }
        assert_eq!(scripted.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_marker_that_the_upstream_sends_is_stripped() {
    each(async |pair| {
        let world = World::start(pair, "", always(201, &[("idempotent-replayed", "true")], b"paid")).await;
        world.send(pay("k")).await.assert_first(201);
        world.send(pay("k")).await.assert_replay(201);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_says_nothing_of_the_first_request() {
    each(async |pair| {
        let world = World::start(pair, "", always(504, &[("x-secret", "hush")], b"hush")).await;
        let secret =
            || post("/payments?q=hush").key("hush-key").header("authorization", "Bearer hush").body("hush");
        world.send(secret()).await.assert_first(504);
        for got in [world.send(secret()).await, world.send(secret().body("other")).await] {
            assert!(got.status == 409 || got.status == 422, "{got:?}");
            assert!(!format!("{:?} {:?}", got.headers, got.body).contains("hush"), "{got:?}");
            assert_eq!(got.header("cache-control"), Some("no-store"));
            let kind = got.json()["type"].as_str().unwrap().to_owned();
            assert!(kind.starts_with("urn:onceward:error:"), "{kind}");
        }
    })
    .await;
}
