//! Which requests are operations.

use super::world::*;

#[tokio::test]
async fn post_and_patch_are_operations_and_others_only_where_a_route_says_so_and_a_key_is_sent() {
    let routes = r#"
        [[route]]
        methods = ["PUT", "DELETE"]
        path = "/items/{id}"
    "#;
    each(async |pair| {
        let world = World::start(pair, routes, paid).await;
        for (method, path, is_operation) in [
            ("POST", "/a", true),
            ("PATCH", "/a", true),
            ("GET", "/a", false),
            ("PUT", "/a", false),
            ("DELETE", "/a", false),
            ("OPTIONS", "/a", false),
            ("PUT", "/items/7", true),
            ("DELETE", "/items/7", true),
        ] {
            world.send(ask(method, path).key("k")).await.assert_first(201);
            let again = world.send(ask(method, path).key("k")).await;
            assert_eq!(again.is_replay(), is_operation, "{method} {path}");
        }
        for _ in 0..2 {
            world.send(ask("PUT", "/items/7")).await.assert_first(201);
        }
    })
    .await;
}

#[tokio::test]
async fn no_spelling_of_a_path_dodges_a_required_key_and_the_upstream_gets_the_raw_bytes() {
    let routes = r#"
        [[route]]
        path = "/payments"
        key = "required"
        [[route]]
        path = "/v1/**"
        key = "required"
    "#;
    let spellings = [
        "/payments",
        "/payments?a=%2F..%2F&b",
        "/%70ayments",
        "/%70%61yment%73",
        "/./payments",
        "/x/../payments",
        "/x/%2e%2E/payments",
        "/../payments",
        "/v1",
        "/v1/",
        "/v1/a/b",
        "/%761/a",
        "/x/../v1",
    ];
    each(async |pair| {
        let world = World::start(pair, routes, paid).await;
        for (at, path) in spellings.into_iter().enumerate() {
            world.send(post(path)).await.assert_problem(400, "key-missing");
            assert_eq!(world.effects(), at, "{path}");
            world.send(post(path).key(&format!("k{at}"))).await.assert_first(201);
            assert_eq!(world.origin.last().target(), path);
        }
        world.send(post("/v12")).await.assert_first(201);
        world.send(post("/payments%2f")).await.assert_first(201);
    })
    .await;
}

#[tokio::test]
async fn the_first_route_that_matches_wins() {
    let routes = r#"
        [[route]]
        path = "/v1/open"
        key = "optional"
        [[route]]
        path = "/v1/**"
        key = "required"
        [[route]]
        path = "/v1/open/**"
        key = "ignored"
    "#;
    let world = World::start(H1, routes, paid).await;
    world.send(post("/v1/open")).await.assert_first(201);
    world.send(post("/v1/open/x")).await.assert_problem(400, "key-missing");
}

#[tokio::test]
async fn grpc_is_never_an_operation_and_its_trailers_pass() {
    let routes = "[[route]]\npath = \"/must/**\"\nkey = \"required\"\n";
    each(async |pair| {
        let handler = |_| async {
            let trailers = http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), 0.into())]);
            let mut response = http::Response::new(onceward_http::Body::whole("x".into(), Some(trailers)));
            response.headers_mut().insert("trailer", "grpc-status".parse().unwrap());
            Ok(response)
        };
        let world = World::start(pair, routes, handler).await;
        for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC-web"] {
            let call = |path| post(path).key("k").header("content-type", kind).header("te", "trailers");
            for _ in 0..2 {
                let got = world.send(call("/svc/Call")).await;
                got.assert_first(200);
                assert_eq!(got.trailers.unwrap()["grpc-status"], "0");
            }
            world.send(call("/must/Call")).await.assert_problem(415, "grpc-unsupported");
        }
        assert_eq!((world.effects(), world.claims()), (6, 0));
    })
    .await;
}

#[tokio::test]
async fn a_request_that_two_readers_could_take_for_two_is_refused() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for method in ["post", "Patch"] {
            world.send(ask(method, "/p").key("k")).await.assert_problem(400, "request-ambiguous");
        }
        assert_eq!(world.effects(), 0);
    })
    .await;
    let world = World::start(H1, "", paid).await;
    let mut raw = world.caller.raw().await;
    raw.send("POST /p HTTP/1.1\r\nhost: a\r\nhost: b\r\nidempotency-key: k\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(raw.read_until("}").await.starts_with("HTTP/1.1 400 "));
    assert_eq!(world.effects(), 0);
}
