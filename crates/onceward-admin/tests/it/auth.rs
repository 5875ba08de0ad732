use http::{Method, StatusCode};

use crate::bench::{Bench, TOKEN};

const PAGES: [(Method, &str); 6] = [
    (Method::GET, "/api/v1/records"),
    (Method::GET, "/api/v1/records/00"),
    (Method::POST, "/api/v1/records/00/resolve"),
    (Method::DELETE, "/api/v1/records/00"),
    (Method::GET, "/api/v1/nothing-here"),
    (Method::PUT, "/api/v1/records"),
];

async fn refused(lines: &[(&str, &str)]) {
    let bench = Bench::new();
    for (method, uri) in PAGES {
        let reply = bench.raw(method.clone(), uri, lines, "").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{method} {uri} {lines:?}");
        assert_eq!(reply.problem(), "admin-unauthorized");
        assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"onceward\"");
        assert_eq!(reply.headers["cache-control"], "no-store");
    }
    assert!(bench.store.log().is_empty(), "a stranger made work for the store");
}

#[tokio::test]
async fn without_the_right_token_no_api_page_is_shown_not_even_that_it_is_missing() {
    let right = format!("Bearer {TOKEN}");
    refused(&[]).await;
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer 0123456789abcdef-tokem",
        "Bearer 0123456789abcdef-toke",
        "Bearer 0123456789abcdef-token2",
        "Basic 0123456789abcdef-token",
        "Digest 0123456789abcdef-token",
        "Bearer0123456789abcdef-token",
        TOKEN,
    ] {
        refused(&[("authorization", wrong)]).await;
    }
    refused(&[("x-api-key", TOKEN)]).await;
    refused(&[("authorization", &right), ("authorization", &right)]).await;
}

#[tokio::test]
async fn the_right_token_opens_whatever_the_case_of_the_scheme() {
    let bench = Bench::new();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let line = format!("{scheme} {TOKEN}");
        let reply = bench.raw(Method::GET, "/api/v1/records", &[("authorization", &line)], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{scheme}");
    }
}

#[tokio::test]
async fn health_and_metrics_need_no_token() {
    let bench = Bench::new();
    for uri in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(bench.raw(Method::GET, uri, &[], "").await.status, StatusCode::OK, "{uri}");
    }
}

#[tokio::test]
async fn unknown_pages_and_methods_are_problems_too() {
    let bench = Bench::new();
    let check = async |method: Method, uri: &str, status: u16, code: &str| {
        let reply = bench.call(method.clone(), uri, "").await;
        assert_eq!(reply.status.as_u16(), status, "{method} {uri}");
        assert_eq!(reply.problem(), code, "{method} {uri}");
        reply
    };
    check(Method::GET, "/", 404, "admin-not-found").await;
    check(Method::GET, "/api/v1", 404, "admin-not-found").await;
    check(Method::GET, "/api/v1/nothing-here", 404, "admin-not-found").await;
    check(Method::POST, "/healthz", 405, "admin-method-not-allowed").await;
    let reply = check(Method::PUT, "/api/v1/records", 405, "admin-method-not-allowed").await;
    assert_eq!(reply.headers["allow"], "GET,HEAD");
}
