//! The contract over TLS, in front of the gateway and behind it.

use std::sync::{Arc, Mutex};

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::*;
use crate::proxy::certificates::Authority;
use crate::proxy::tls_peer::TlsPeer;

const UPSTREAM: &str = "upstream.urls = [\"{url}\"]\n";

/// The settings of a listener with a certificate of its own for `localhost`. Asked again, they name the same
/// files, which hold another certificate then.
fn tls(authority: &Authority) -> String {
    let (cert, key) = authority.files("localhost");
    format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n")
}

async fn shake_hands(world: &World, authority: &Authority, wire: Wire) -> TlsStream<TcpStream> {
    let alpn = alpn(wire);
    let stream = TcpStream::connect(world.gateway.address()).await.unwrap();
    let connector = TlsConnector::from(authority.client(&[alpn]));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream);
    let stream = within(stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
    stream
}

fn alpn(wire: Wire) -> &'static str {
    match wire {
        Wire::H1 => "http/1.1",
        Wire::H2c => "h2",
    }
}

async fn connect(world: &World, authority: &Authority, wire: Wire) -> Line {
    Line::over(shake_hands(world, authority, wire).await, wire, "https").await
}

async fn send(line: &mut Line, ask: Ask) -> Got {
    Got::read(within(line.send(ask)).await.unwrap()).await
}

/// The certificate that a new connection is shown.
async fn shown(world: &World, authority: &Authority) -> CertificateDer<'static> {
    let stream = shake_hands(world, authority, Wire::H1).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn an_operation_over_tls_runs_once_and_the_upstream_is_told_that_it_came_over_tls() {
    each(async |pair| {
        let authority = Authority::new();
        let world = World::start(pair, &tls(&authority), paid).await;
        let mut line = connect(&world, &authority, pair.front).await;
        send(&mut line, pay("k")).await.assert_first(201);
        let again = send(&mut line, pay("k")).await;
        again.assert_replay(201);
        assert_eq!(&again.body[..], b"paid");
        send(&mut line, pay_other("k")).await.assert_problem(422, "key-reused");
        assert_eq!(world.effects(), 1);
        assert_eq!(world.origin.last().header("x-forwarded-proto"), Some("https"));
    })
    .await;
}

#[tokio::test]
async fn a_key_is_the_same_in_both_protocols_over_tls() {
    let authority = Authority::new();
    let world = World::start(H1, &tls(&authority), paid).await;
    send(&mut connect(&world, &authority, Wire::H1).await, pay("k")).await.assert_first(201);
    send(&mut connect(&world, &authority, Wire::H2c).await, pay("k")).await.assert_replay(201);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn without_tls_the_upstream_is_told_so_whatever_the_caller_says() {
    let world = World::start(H1, "", paid).await;
    world.send(pay("k").header("x-forwarded-proto", "https")).await.assert_first(201);
    assert_eq!(world.origin.last().header("x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn a_reload_shows_the_new_certificate_to_new_connections_and_leaves_the_old_ones_alone() {
    let (authority, gate) = (Authority::new(), turnstile());
    let file = Arc::new(Mutex::new(format!("{UPSTREAM}{}", tls(&authority))));
    let world = World::reloadable(Origin::start(paid_after(&gate)).await, &file).await;
    let old = shown(&world, &authority).await;
    let mut lines = Vec::new();
    for wire in [Wire::H1, Wire::H2c] {
        let mut line = connect(&world, &authority, wire).await;
        let mut running = JoinSet::new();
        running.spawn(line.send(pay(alpn(wire))));
        lines.push((line, running));
    }
    until(|| world.effects() == 2).await;

    // The same names, another certificate in them.
    tls(&authority);
    let told = world.reload().await;
    assert_eq!((told.status.as_u16(), &told.json()["changed"]), (200, &serde_json::json!([])));
    let new = shown(&world, &authority).await;
    assert_ne!(new, old);

    gate.add_permits(3);
    for (mut line, mut running) in lines {
        Got::read(within(running.join_next()).await.unwrap().unwrap().unwrap()).await.assert_first(201);
        send(&mut line, pay("h2")).await.assert_replay(201);
    }
    assert_eq!(world.effects(), 2);
}

#[tokio::test]
async fn a_key_file_that_cannot_be_used_is_refused_and_the_old_certificate_is_served_on() {
    let authority = Authority::new();
    let file = Arc::new(Mutex::new(format!("{UPSTREAM}{}", tls(&authority))));
    let world = World::reloadable(Origin::start(paid).await, &file).await;
    let old = shown(&world, &authority).await;
    let ends = world.metric("onceward_tls_certificate_not_after_seconds").await;
    assert_ne!(ends, "none");
    let (_, key) = authority.files("localhost");
    std::fs::write(&key, "no key at all").unwrap();
    file.lock().unwrap().push_str("[policy]\nkey = \"required\"\n");
    let told = world.reload().await;
    told.assert_problem(422, "reload-refused");
    let text = told.json().to_string();
    assert!(text.contains("\"tls\"") && text.contains(key.to_str().unwrap()), "{text}");
    assert_eq!(shown(&world, &authority).await, old);
    assert_eq!(world.metric("onceward_settings_stale").await, "1");
    assert_eq!(world.metric("onceward_tls_certificate_not_after_seconds").await, ends);
    // Nothing else was taken up either.
    let mut line = connect(&world, &authority, Wire::H1).await;
    send(&mut line, post("/payments").body("1")).await.assert_first(201);
    // Written in order, it is taken up.
    tls(&authority);
    assert_eq!(world.reload().await.status, 200);
    assert_ne!(shown(&world, &authority).await, old);
}

#[tokio::test]
async fn whether_the_listener_speaks_tls_is_settled_at_the_start() {
    let authority = Authority::new();
    let with = format!("{UPSTREAM}{}", tls(&authority));
    for (before, after) in [(UPSTREAM, with.as_str()), (with.as_str(), UPSTREAM)] {
        let file = Arc::new(Mutex::new(before.to_owned()));
        let world = World::reloadable(Origin::start(paid).await, &file).await;
        after.clone_into(&mut file.lock().unwrap());
        let told = world.reload().await;
        told.assert_problem(422, "reload-refused");
        let text = told.json().to_string();
        for named in ["\"tls.cert\"", "\"tls.key\"", "needs a restart"] {
            assert!(text.contains(named), "{named} is not in {text}");
        }
        // It goes on as it was.
        if before == UPSTREAM {
            world.send(pay("k")).await.assert_first(201);
        } else {
            let mut line = connect(&world, &authority, Wire::H1).await;
            send(&mut line, pay("k")).await.assert_first(201);
        }
    }
}

#[tokio::test]
async fn an_upstream_behind_tls_gets_an_operation_once() {
    let authority = Authority::new();
    let peer = TlsPeer::start(authority.server("localhost", &["h2", "http/1.1"])).await;
    let tune = |it: &mut onceward_gateway::settings::Settings| {
        it.upstream.urls = vec![peer.url("localhost")];
        it.upstream.ca_file = authority.file();
        it.upstream.protocol = onceward_gateway::settings::Protocol::Auto;
    };
    let world = World::before(Origin::elsewhere(peer.addr), H1, "", tune).await;
    world.send(pay("k")).await.assert_first(200);
    world.send(pay("k")).await.assert_replay(200);
    world.send(pay_other("k")).await.assert_problem(422, "key-reused");
    let asked = peer.asked();
    assert_eq!(asked.len(), 1);
    // By default such an upstream is asked by its own name.
    let own = format!("localhost:{}", peer.addr.port());
    assert_eq!((asked[0].version, &asked[0].host), (http::Version::HTTP_2, &own));
}

#[tokio::test]
async fn an_upstream_that_the_ca_file_does_not_vouch_for_is_unreachable_and_the_key_is_free() {
    let (authority, other) = (Authority::new(), Authority::new());
    let peer = TlsPeer::start(authority.server("localhost", &["http/1.1"])).await;
    let trusting = |it: &Authority| {
        format!("[upstream]\nurls = [\"{}\"]\nca_file = {:?}\n", peer.url("localhost"), it.file())
    };
    let file = Arc::new(Mutex::new(trusting(&other)));
    let world = World::reloadable(Origin::elsewhere(peer.addr), &file).await;
    world.send(pay("k")).await.assert_problem(502, "upstream-unreachable");
    // Free for any request.
    world.send(pay_other("k")).await.assert_problem(502, "upstream-unreachable");
    assert_eq!(peer.asked(), []);
    *file.lock().unwrap() = trusting(&authority);
    assert_eq!(world.reload().await.status, 200);
    world.send(pay("k")).await.assert_first(200);
    world.send(pay("k")).await.assert_replay(200);
    assert_eq!(peer.asked().len(), 1);
}
