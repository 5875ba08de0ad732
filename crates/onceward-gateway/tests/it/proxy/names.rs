//! Names and their addresses, told by a name server that a test holds in its hand.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceward_gateway::{Names, Surroundings};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::ejection::pass;
use super::*;
use crate::scripted::Scripted;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A name server that knows one name, `up.test`.
#[derive(Clone)]
struct NameServer {
    addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

struct Zone {
    addresses: Vec<IpAddr>,
    ttl: u32,
    silent: bool,
    /// Questions for IPv4 addresses.
    asked: usize,
}

impl NameServer {
    async fn start(addresses: &[&str], ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let zone = Zone { addresses: vec![], ttl, silent: false, asked: 0 };
        let it = Self { addr: socket.local_addr().unwrap(), zone: Arc::new(Mutex::new(zone)) };
        it.set(addresses);
        let zone = Arc::clone(&it.zone);
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = zone.lock().unwrap().answer(&question[..length]);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        it
    }

    fn set(&self, addresses: &[&str]) {
        self.zone.lock().unwrap().addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
    }

    fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }

    fn upstream(&self, settings: UpstreamSettings) -> Upstream {
        let mut within = Surroundings::new(TaskTracker::new(), CancellationToken::new());
        within.names = Names::server(self.addr);
        Upstream::within(settings, within).unwrap()
    }

    /// An upstream of this name.
    fn named(&self, host: &str, port: u16) -> Upstream {
        let mut settings = UpstreamSettings::new(format!("http://{host}:{port}").parse().unwrap());
        settings.idle_max = Duration::from_secs(3600);
        self.upstream(settings)
    }
}

impl Zone {
    fn answer(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        let name_end = 12 + question[12..].iter().position(|it| *it == 0)? + 1;
        let kind = u16::from_be_bytes([question[name_end], question[name_end + 1]]);
        let known = question[12..name_end].eq_ignore_ascii_case(b"\x02up\x04test\0");
        self.asked += usize::from(kind == 1);
        if self.silent {
            return None;
        }
        let wanted =
            |it: &&IpAddr| known && if kind == 1 { it.is_ipv4() } else { kind == 28 && it.is_ipv6() };
        let found: Vec<&IpAddr> = self.addresses.iter().filter(wanted).collect();
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::try_from(found.len()).unwrap()]);
        answer.extend([0, 0, 0, 0]);
        answer.extend(&question[12..name_end + 4]);
        for address in found {
            let bytes = match address {
                IpAddr::V4(it) => it.octets().to_vec(),
                IpAddr::V6(it) => it.octets().to_vec(),
            };
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(self.ttl.to_be_bytes());
            answer.extend([0, u8::try_from(bytes.len()).unwrap()]);
            answer.extend(bytes);
        }
        Some(answer)
    }
}

async fn answering_at(addr: &str) -> Scripted {
    Scripted::at(addr, |mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(OK).await;
        }
    })
    .await
}

/// Sends, and lets the connection go back to where the next request looks for it.
async fn get(upstream: &Upstream) -> String {
    let text = super::get(upstream).await;
    tokio::task::yield_now().await;
    text
}

/// Two upstreams at two addresses and one port.
async fn two() -> (Scripted, Scripted) {
    let first = answering_at("127.0.0.1:0").await;
    let second = answering_at(&format!("127.0.0.2:{}", first.addr.port())).await;
    (first, second)
}

#[tokio::test]
async fn a_name_is_asked_for_once_in_its_time_to_live() {
    let dns = NameServer::start(&["127.0.0.1"], 30).await;
    let (first, _second) = two().await;
    let upstream = dns.named("up.test", first.addr.port());
    for _ in 0..5 {
        assert_eq!(get(&upstream).await, "ok");
    }
    assert_eq!(dns.asked(), 1);
    pass(Duration::from_secs(29)).await;
    get(&upstream).await;
    assert_eq!(dns.asked(), 1);
    pass(Duration::from_secs(2)).await;
    get(&upstream).await;
    assert_eq!(dns.asked(), 2);
    // The address is the same, so the connection still serves.
    assert_eq!(first.connections(), 1);
}

#[tokio::test]
async fn a_name_that_moved_is_followed_and_its_old_connections_are_not_used() {
    let dns = NameServer::start(&["127.0.0.1"], 5).await;
    let (first, second) = two().await;
    let upstream = dns.named("up.test", first.addr.port());
    get(&upstream).await;
    dns.set(&["127.0.0.2"]);
    get(&upstream).await;
    assert_eq!((first.seen().len(), second.seen().len()), (2, 0));
    pass(Duration::from_secs(6)).await;
    get(&upstream).await;
    assert_eq!((first.seen().len(), second.seen().len()), (2, 1));
}

#[tokio::test]
async fn a_time_to_live_counts_for_at_least_a_second_and_at_most_five_minutes() {
    for (ttl, short, long) in [(0, 900, 200), (86_400, 299_000, 2_000)] {
        let dns = NameServer::start(&["127.0.0.1"], ttl).await;
        let (first, _second) = two().await;
        let upstream = dns.named("up.test", first.addr.port());
        get(&upstream).await;
        pass(Duration::from_millis(short)).await;
        get(&upstream).await;
        assert_eq!(dns.asked(), 1, "{ttl}");
        pass(Duration::from_millis(long)).await;
        get(&upstream).await;
        assert_eq!(dns.asked(), 2, "{ttl}");
    }
}

#[tokio::test]
async fn an_address_that_refuses_gives_way_to_the_next() {
    // Nobody listens on IPv6 or at the third address.
    let dns = NameServer::start(&["127.0.0.3", "127.0.0.2", "::1"], 30).await;
    let (first, second) = two().await;
    let upstream = dns.named("up.test", first.addr.port());
    assert_eq!(get(&upstream).await, "ok");
    assert_eq!(second.seen().len(), 1);
}

#[tokio::test]
async fn an_address_that_hangs_gives_way_to_the_next_after_its_head_start() {
    let first = answering_at("127.0.0.1:0").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("127.0.0.2:{}", first.addr.port()).parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    // Until its queue is full, after which connects hang.
    while let Ok(Ok(it)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(full.local_addr().unwrap())).await
    {
        waiting.push(it);
    }
    let dns = NameServer::start(&["127.0.0.2", "127.0.0.1"], 30).await;
    let began = tokio::time::Instant::now();
    assert_eq!(get(&dns.named("up.test", first.addr.port())).await, "ok");
    let took = began.elapsed();
    assert!((Duration::from_millis(240)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn when_nobody_can_be_asked_the_old_addresses_serve_on() {
    let dns = NameServer::start(&["127.0.0.1"], 5).await;
    let (first, _second) = two().await;
    let upstream = dns.named("up.test", first.addr.port());
    get(&upstream).await;
    dns.zone.lock().unwrap().silent = true;
    pass(Duration::from_secs(6)).await;
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(get(&upstream).await, "ok");
    }
    // Only the first request waits, and not for long.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(first.connections(), 1);
}

#[tokio::test]
async fn a_name_that_does_not_exist_frees_the_key() {
    let dns = NameServer::start(&[], 5).await;
    for host in ["up.test", "other.test"] {
        assert_eq!(outcome(&send(&dns.named(host, 80), operation("pay")).await), RELEASED, "{host}");
    }
    assert!(dns.asked() > 0);
}
