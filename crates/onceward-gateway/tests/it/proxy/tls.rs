//! TLS to upstreams: whom we trust, what we offer, and that a failed handshake proves that nothing was sent.

use http::Version;
use onceward_gateway::{Fault, HostMode, Protocol};

use super::certificates::Authority;
use super::front::{Raw, serve};
use super::tls_peer::{Asked, TlsPeer};
use super::*;
use crate::scripted::Scripted;

const BOTH: &[&str] = &["h2", "http/1.1"];

fn to(peer: &TlsPeer, host: &str, ca: &Authority) -> UpstreamSettings {
    let mut settings = UpstreamSettings::new(peer.url(host));
    settings.ca_file = Some(ca.file());
    settings
}

/// Sends an operation, which must go through; tells how it was asked.
async fn asked(peer: &TlsPeer, settings: UpstreamSettings) -> Asked {
    let response = send(&upstream(settings), operation("pay")).await;
    assert_eq!(outcome(&response), (StatusCode::OK, None));
    assert_eq!(text(response).await, "ok");
    peer.asked().pop().unwrap()
}

/// Sends an operation, which must fail with its key free and nothing sent.
async fn unsent(peer: &TlsPeer, settings: UpstreamSettings) {
    let response = send(&upstream(settings), operation("pay")).await;
    assert_eq!(outcome(&response), RELEASED);
    assert_eq!(response.extensions().get(), Some(&Fault::Unreachable));
    assert_eq!(peer.asked(), []);
}

#[tokio::test]
async fn an_upstream_whose_certificate_the_ca_file_vouches_for_gets_the_request() {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server("localhost", BOTH)).await;
    let asked = asked(&peer, to(&peer, "localhost", &ca)).await;
    assert_eq!(asked.body, "pay");
    assert_eq!(asked.sni.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn an_address_may_have_a_certificate_too() {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server("127.0.0.1", BOTH)).await;
    assert_eq!(asked(&peer, to(&peer, "127.0.0.1", &ca)).await.sni, None);
}

#[tokio::test]
async fn a_certificate_for_another_name_frees_the_key() {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server("other.example", BOTH)).await;
    unsent(&peer, to(&peer, "localhost", &ca)).await;
    crate::scripted::until(|| peer.handshakes().len() == 1).await;
    assert!(peer.handshakes()[0].is_some());
}

#[tokio::test]
async fn an_expired_certificate_frees_the_key() {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server_until("localhost", BOTH, 2020)).await;
    unsent(&peer, to(&peer, "localhost", &ca)).await;
}

#[tokio::test]
async fn the_ca_file_replaces_the_systems_roots_and_an_unknown_authority_frees_the_key() {
    let (ca, other) = (Authority::new(), Authority::new());
    let peer = TlsPeer::start(ca.server("localhost", BOTH)).await;
    unsent(&peer, to(&peer, "localhost", &other)).await;
}

#[tokio::test]
async fn the_systems_roots_do_not_vouch_for_anybody_or_are_missed_by_name() {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server("localhost", BOTH)).await;
    let settings = UpstreamSettings::new(peer.url("localhost"));
    match Upstream::new(settings.clone(), TaskTracker::new(), CancellationToken::new()) {
        Ok(_) => unsent(&peer, settings).await,
        Err(error) => {
            assert_eq!(error.field(), "ca_file");
            assert!(error.remedy().contains("ca-certificates"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_or_a_broken_handshake_frees_the_key() {
    let ca = Authority::new();
    let plain = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let closing = Scripted::start(|peer| async move { drop(peer) }).await;
    let hanging = Scripted::start(|mut peer| async move { peer.closed().await }).await;
    for addr in [plain.addr, closing.addr, hanging.addr] {
        let mut settings = UpstreamSettings::new(format!("https://{addr}").parse().unwrap());
        settings.ca_file = Some(ca.file());
        settings.connect_timeout = std::time::Duration::from_millis(300);
        assert_eq!(outcome(&send(&upstream(settings), operation("pay")).await), RELEASED);
    }
    assert_eq!(plain.seen().len(), 0);
}

async fn spoken(protocol: Protocol, alpn: &[&str]) -> Option<Version> {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server("localhost", alpn)).await;
    let mut settings = to(&peer, "localhost", &ca);
    settings.protocol = protocol;
    let response = send(&upstream(settings), operation("pay")).await;
    let asked = peer.asked().pop();
    let expected = if asked.is_some() { (StatusCode::OK, None) } else { RELEASED };
    assert_eq!(outcome(&response), expected);
    asked.map(|it| it.version)
}

#[tokio::test]
async fn auto_speaks_http2_where_it_is_offered_and_http1_elsewhere() {
    assert_eq!(spoken(Protocol::Auto, BOTH).await, Some(Version::HTTP_2));
    assert_eq!(spoken(Protocol::Auto, &["h2"]).await, Some(Version::HTTP_2));
    assert_eq!(spoken(Protocol::Auto, &["http/1.1"]).await, Some(Version::HTTP_11));
    assert_eq!(spoken(Protocol::Auto, &[]).await, Some(Version::HTTP_11));
}

#[tokio::test]
async fn http1_offers_http1_alone() {
    assert_eq!(spoken(Protocol::Http1, BOTH).await, Some(Version::HTTP_11));
    assert_eq!(spoken(Protocol::Http1, &[]).await, Some(Version::HTTP_11));
    assert_eq!(spoken(Protocol::Http1, &["h2"]).await, None);
}

#[tokio::test]
async fn h2_is_had_or_the_upstream_is_unreachable() {
    assert_eq!(spoken(Protocol::H2, BOTH).await, Some(Version::HTTP_2));
    assert_eq!(spoken(Protocol::H2, &["http/1.1"]).await, None);
    assert_eq!(spoken(Protocol::H2, &[]).await, None);
}

#[tokio::test]
async fn the_upstream_is_told_its_own_host_and_the_clients_when_that_is_set() {
    let ca = Authority::new();
    for alpn in [&["h2"], &["http/1.1"]] {
        let peer = TlsPeer::start(ca.server("localhost", alpn)).await;
        let own = asked(&peer, to(&peer, "localhost", &ca)).await;
        assert_eq!(own.host, format!("localhost:{}", peer.addr.port()));
        let mut settings = to(&peer, "localhost", &ca);
        settings.host = Some(HostMode::Preserve);
        let preserved = asked(&peer, settings).await;
        assert_eq!(preserved.host, "shop.example");
        // The certificate is checked against the URL's host even so.
        assert_eq!(preserved.sni.as_deref(), Some("localhost"));
    }
}

#[tokio::test]
async fn connections_behind_tls_are_used_again() {
    let ca = Authority::new();
    for alpn in [&["h2"], &["http/1.1"]] {
        let peer = TlsPeer::start(ca.server("localhost", alpn)).await;
        let upstream = upstream(to(&peer, "localhost", &ca));
        for _ in 0..3 {
            get(&upstream).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(peer.asked().iter().map(|it| it.connection).collect::<Vec<_>>(), [1, 1, 1]);
    }
}

#[tokio::test]
async fn many_first_requests_share_one_http2_connection() {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server("localhost", BOTH)).await;
    let upstream = upstream(to(&peer, "localhost", &ca));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let upstream = upstream.clone();
        running.spawn(async move { get(&upstream).await });
    }
    running.join_all().await;
    assert_eq!(peer.asked().len(), 20);
    assert_eq!(peer.handshakes(), [None]);
}

#[tokio::test]
async fn a_websocket_goes_over_http1_where_other_requests_go_over_http2() {
    let ca = Authority::new();
    let peer = TlsPeer::start(ca.server("localhost", BOTH)).await;
    let upstream = upstream(to(&peer, "localhost", &ca));
    get(&upstream).await;
    let mut client = Raw::connect(serve(upstream).await).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.send("hello").await;
    client.read_until("hello").await;
    let versions: Vec<_> = peer.asked().iter().map(|it| it.version).collect();
    assert_eq!(versions, [Version::HTTP_2, Version::HTTP_11]);
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_told_with_its_name_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("missing.pem", None, "cannot be read"),
        ("empty.pem", Some(""), "holds no certificate"),
        ("key.pem", Some("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"), "is not PEM"),
        (
            "junk.pem",
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "that can be used",
        ),
    ];
    for (name, content, what) in cases {
        let file = dir.path().join(name);
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let mut settings = UpstreamSettings::new("https://localhost".parse().unwrap());
        settings.ca_file = Some(file.clone());
        let made = Upstream::new(settings.clone(), TaskTracker::new(), CancellationToken::new());
        let error = made.map(drop).unwrap_err();
        assert_eq!(error.field(), "ca_file");
        let told = error.to_string();
        for part in [file.to_str().unwrap(), what, "name a PEM file"] {
            assert!(told.contains(part), "{part:?} is missing: {told}");
        }
        // Without https:// there is nothing to check, and the file is not read.
        settings.urls = vec!["http://localhost".parse().unwrap()];
        upstream(settings);
    }
}
