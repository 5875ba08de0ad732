//! TLS on the listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper_util::rt::{TokioExecutor, TokioIo};
use onceward_gateway::SecureClient;
use onceward_gateway::listen::{Listening, ReloadableTls, Tls, TlsError, TlsWarning};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::*;

/// An authority, and files that it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A certificate with its chain, and its key, each in a file.
    fn sign(&self, name: &str, tune: impl FnOnce(&mut CertificateParams)) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        tune(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = format!("{}{}", certificate.pem(), self.issuer.pem());
        (self.file(&format!("{name}.pem"), chain), self.file(&format!("{name}.key"), key.serialize_pem()))
    }

    fn tls(&self, name: &str) -> Tls {
        let (certificate, key) = self.sign(name, |_| {});
        Tls::load(&certificate, &key).unwrap()
    }

    async fn connect(&self, addr: SocketAddr, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_with(addr, alpn, rustls::DEFAULT_VERSIONS).await
    }

    async fn connect_with(
        &self,
        addr: SocketAddr,
        alpn: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

async fn world(tls: Tls, limits: Limits) -> (World, ReloadableTls) {
    let tls = ReloadableTls::new(tls);
    let listening = Listening { limits, tls: Some(tls.clone()), ..Listening::default() };
    let world = World::start(listening, |asked: Asked| async move {
        assert_eq!(asked.extensions().get(), Some(&SecureClient));
        answer(200, "over TLS")
    })
    .await;
    (world, tls)
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn both_protocols_and_both_versions_carry_requests() {
    let authority = Authority::new();
    let (world, _) = world(authority.tls("a"), patient()).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for alpn in [&["http/1.1"][..], &[]] {
            let stream = authority.connect_with(world.addr, alpn, &[version]).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
            assert_eq!(stream.get_ref().1.alpn_protocol(), alpn.first().map(|it| it.as_bytes()));
            let mut raw = Raw(stream);
            raw.offer(ASK).await;
            assert!(raw.read_until("over TLS").await.starts_with("HTTP/1.1 200 OK\r\n"));
        }
        let stream = authority.connect_with(world.addr, &["h2", "http/1.1"], &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(connection);
        let ask = Request::get("https://localhost/").body(Body::empty()).unwrap();
        let answer = within(sender.send_request(ask)).await.unwrap();
        let (status, body) = (answer.status(), within(answer.into_body().collect()).await.unwrap());
        assert_eq!((status.as_u16(), &body.to_bytes()[..]), (200, &b"over TLS"[..]));
    }
    // A caller that speaks neither is told so in the handshake.
    assert!(authority.connect(world.addr, &["spdy/3"]).await.is_err());
    until(|| world.counters.count(Count::HandshakeFailed) == 1).await;
}

#[tokio::test]
async fn the_whole_chain_is_sent() {
    let authority = Authority::new();
    let (world, _) = world(authority.tls("a"), patient()).await;
    let stream = authority.connect(world.addr, &[]).await.unwrap();
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!((chain.len(), &chain[1]), (2, authority.issuer.der()));
}

fn served(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_go_on() {
    let authority = Authority::new();
    let (world, tls) = world(authority.tls("old"), patient()).await;
    let stream = authority.connect(world.addr, &[]).await.unwrap();
    let old = served(&stream);
    let mut under_way = Raw(stream);
    under_way.offer(&ASK[..20]).await;
    tls.replace(authority.tls("new"));
    let stream = authority.connect(world.addr, &[]).await.unwrap();
    assert_ne!(served(&stream), old);
    under_way.offer(&ASK[20..]).await;
    under_way.read_until("over TLS").await;
    assert_eq!(served(&under_way.0), old);
}

#[tokio::test]
async fn a_failed_handshake_costs_nobody_else_anything() {
    let authority = Authority::new();
    let (world, _) = world(authority.tls("a"), Limits { header_timeout: SOON, ..patient() }).await;
    let mut good = Raw(authority.connect(world.addr, &[]).await.unwrap());
    // Half a handshake, noise behind the first byte, and nothing at all.
    let mut half = world.connect().await;
    half.offer([0x16, 0x03, 0x01, 0x02, 0x00]).await;
    let mut noise = world.connect().await;
    noise.offer([&[0x16][..], &[0xff; 500]].concat()).await;
    let mut silent = world.connect().await;
    good.offer(ASK).await;
    good.read_until("over TLS").await;
    half.closed().await;
    noise.closed().await;
    silent.closed().await;
    assert_eq!(world.counters.count(Count::HandshakeFailed), 2);
    good.offer(ASK).await;
    good.read_until("over TLS").await;
}

#[tokio::test]
async fn plain_http_on_the_port_is_told_to_use_tls() {
    let authority = Authority::new();
    let (world, _) = world(authority.tls("a"), patient()).await;
    let answer = world.tell(ASK).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("speaks TLS"), "{answer:?}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{answer:?}");
    assert_eq!((world.seen(), world.counters.count(Count::PlainOnTls)), (0, 1));
}

#[tokio::test]
async fn what_is_refused_in_plain_is_refused_over_tls() {
    let authority = Authority::new();
    let (world, _) = world(authority.tls("a"), patient()).await;
    let mut raw = Raw(authority.connect(world.addr, &["http/1.1"]).await.unwrap());
    raw.offer("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n").await;
    assert!(raw.read_to_end().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(world.seen(), 0);
}

#[test]
fn every_kind_of_key_file_is_read() {
    let authority = Authority::new();
    for (kind, key, certificate) in [
        ("PKCS#8", include_str!("tls/rsa_pkcs8.key"), include_str!("tls/rsa.pem")),
        ("PKCS#1", include_str!("tls/rsa_pkcs1.key"), include_str!("tls/rsa.pem")),
        ("SEC1", include_str!("tls/ec_sec1.key"), include_str!("tls/ec.pem")),
    ] {
        let (key, certificate) = (authority.file("key", key), authority.file("certificate", certificate));
        assert!(Tls::load(&certificate, &key).is_ok(), "{kind}");
    }
}

#[test]
fn an_error_names_the_file_and_the_remedy() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("a", |_| {});
    let (other, _) = authority.sign("b", |_| {});
    let missing = authority.folder.path().join("missing.pem");
    let empty = authority.file("empty.pem", "");
    let cut = std::fs::read_to_string(&certificate).unwrap();
    let cut = authority.file("cut.pem", &cut[..200]);
    let odd = authority.file("odd.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let odd_key = authority.file("odd.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = authority.file("locked.key", locked);
    let check = |certificate: &PathBuf, key: &PathBuf, named: &PathBuf, is: fn(&TlsError) -> bool, remedy| {
        let error = Tls::load(certificate, key).unwrap_err();
        let text = error.to_string();
        assert!(is(&error), "{error:?}");
        assert!(text.contains(named.to_str().unwrap()) && text.contains(remedy), "{text}");
    };
    check(&missing, &key, &missing, |it| matches!(it, TlsError::Read { .. }), "must exist");
    check(&certificate, &missing, &missing, |it| matches!(it, TlsError::Read { .. }), "must exist");
    check(&empty, &key, &empty, |it| matches!(it, TlsError::NoCertificate { .. }), "BEGIN CERTIFICATE");
    check(&key, &key, &key, |it| matches!(it, TlsError::NoCertificate { .. }), "BEGIN CERTIFICATE");
    check(&cut, &key, &cut, |it| matches!(it, TlsError::Damaged { .. }), "write it again");
    check(&odd, &key, &odd, |it| matches!(it, TlsError::Certificate { .. }), "ask for a new one");
    check(&certificate, &empty, &empty, |it| matches!(it, TlsError::NoKey { .. }), "openssl pkey");
    check(&certificate, &certificate, &certificate, |it| matches!(it, TlsError::NoKey { .. }), "PKCS#8");
    check(&certificate, &locked, &locked, |it| matches!(it, TlsError::NoKey { .. }), "not encrypted");
    check(&certificate, &odd_key, &odd_key, |it| matches!(it, TlsError::Key { .. }), "ECDSA");
    check(&other, &key, &other, |it| matches!(it, TlsError::Mismatch { .. }), "must come first");
}

#[test]
fn the_end_of_a_certificate_is_known_and_an_expired_one_is_served_with_a_warning() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("a", |it| {
        it.not_before = rcgen::date_time_ymd(2024, 2, 1);
        it.not_after = rcgen::date_time_ymd(2024, 2, 29);
    });
    let tls = Tls::load(&certificate, &key).unwrap();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(tls.not_after(), at(1_709_164_800));
    for (now, warning) in [
        (1_706_745_599, Some(TlsWarning::NotYetValid)),
        (1_706_745_600, None),
        (1_709_164_800 - 14 * 86_400, None),
        (1_709_164_801 - 14 * 86_400, Some(TlsWarning::EndsSoon)),
        (1_709_164_800, Some(TlsWarning::EndsSoon)),
        (1_709_164_801, Some(TlsWarning::Expired)),
    ] {
        assert_eq!(tls.warning(at(now)), warning, "{now}");
    }
}
