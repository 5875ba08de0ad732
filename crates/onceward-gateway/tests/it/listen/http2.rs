//! HTTP/2: what one connection may ask for, and that trouble ends at its own stream or connection.

use std::sync::Arc;

use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::world::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// `GET http://a/` in HPACK, from the static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Frames as they come, each as kind, stream and payload.
pub(super) struct Frames(pub(super) Raw);

impl Frames {
    pub(super) async fn open(world: &World) -> Self {
        let mut raw = world.connect().await;
        raw.offer([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        Self(raw)
    }

    pub(super) async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        within(async {
            let mut head = [0; 9];
            self.0.0.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            self.0.0.read_exact(&mut payload).await.ok()?;
            Some((head[3], u32::from_be_bytes(head[5..].try_into().unwrap()), payload))
        })
        .await
    }

    /// Reads until a frame of this kind, or the end.
    async fn until(&mut self, kind: u8) -> Option<(u32, Vec<u8>)> {
        loop {
            let (found, stream, payload) = self.next().await?;
            if found == kind {
                return Some((stream, payload));
            }
        }
    }

    /// The code of the GOAWAY that must come.
    pub(super) async fn goaway(&mut self) -> u8 {
        self.until(GOAWAY).await.expect("a GOAWAY comes before the end").1[7]
    }
}

async fn client(world: &World) -> (SendRequest<Body>, JoinSet<hyper::Result<()>>) {
    let io = TokioIo::new(world.connect().await.0);
    let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    (sender, driver)
}

fn ask(path: &str) -> Request<Body> {
    Request::get(format!("http://a{path}")).body(Body::empty()).unwrap()
}

async fn status(sender: &mut SendRequest<Body>, request: Request<Body>) -> u16 {
    within(sender.send_request(request)).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_connection_may_open_a_hundred_streams_and_one_more_is_refused() {
    let world = World::plain(patient(), |_| std::future::pending()).await;
    let mut frames = Frames::open(&world).await;
    let (_, settings) = frames.until(SETTINGS).await.unwrap();
    let max = settings.chunks(6).find(|it| it[..2] == [0, 3]).unwrap();
    assert_eq!(max[2..], 100_u32.to_be_bytes());
    for stream in 0..101 {
        frames.0.offer(frame(HEADERS, END_STREAM | END_HEADERS, stream * 2 + 1, GET)).await;
    }
    let refused_stream: &[u8] = &[0, 0, 0, 7];
    assert_eq!(frames.until(RST_STREAM).await.unwrap(), (201, refused_stream.to_vec()));
    until(|| world.seen() == 100).await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_their_connection() {
    let world = World::plain(patient(), |asked: Asked| async move {
        if asked.uri().path() == "/" && asked.version() == http::Version::HTTP_11 {
            return answer(200, "hello");
        }
        std::future::pending().await
    })
    .await;
    let mut frames = Frames::open(&world).await;
    let cancel: &[u8] = &[0, 0, 0, 8];
    let burst: Vec<u8> = (0..10_000)
        .flat_map(|it| {
            let stream = it * 2 + 1;
            let open = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
            [open, frame(RST_STREAM, 0, stream, cancel)].concat()
        })
        .collect();
    frames.0.offer(burst).await;
    let enhance_your_calm = 11;
    assert_eq!(frames.goaway().await, enhance_your_calm);
    frames.0.closed().await;
    assert!(world.seen() <= 100, "{} were begun", world.seen());
    world.assert_serves().await;
}

#[tokio::test]
async fn a_head_that_goes_on_for_ever_ends_its_connection() {
    let world = World::hello(patient()).await;
    let mut frames = Frames::open(&world).await;
    frames.0.offer(frame(HEADERS, END_STREAM, 1, GET)).await;
    // A literal of 8 KiB that is not indexed, again and again.
    let field = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x3f][..], &[b'y'; 8192]].concat();
    for _ in 0..100 {
        frames.0.offer(frame(CONTINUATION, 0, 1, &field)).await;
    }
    frames.0.closed().await;
    assert_eq!(world.seen(), 0);
    world.assert_serves().await;
}

#[tokio::test]
async fn empty_pieces_of_a_head_end_their_connection() {
    let world = World::hello(patient()).await;
    let mut frames = Frames::open(&world).await;
    frames.0.offer(frame(HEADERS, END_STREAM, 1, GET)).await;
    frames.0.offer(frame(CONTINUATION, 0, 1, &[]).repeat(100_000)).await;
    frames.0.closed().await;
    assert_eq!(world.seen(), 0);
}

#[tokio::test]
async fn a_head_beyond_the_limits_has_a_status_and_its_connection_goes_on() {
    let world = World::hello(Limits { head_bytes_max: 8 << 10, target_bytes_max: 100, ..patient() }).await;
    let (mut sender, _driver) = client(&world).await;
    assert_eq!(status(&mut sender, ask(&format!("/{}", "t".repeat(99)))).await, 200);
    assert_eq!(status(&mut sender, ask(&format!("/{}", "t".repeat(100)))).await, 414);
    let mut many = ask("/");
    for at in 0..101 {
        many.headers_mut().append("x", at.into());
    }
    assert_eq!(status(&mut sender, many).await, 431);
    let mut long = ask("/");
    long.headers_mut().append("x", "y".repeat(9 << 10).parse().unwrap());
    assert_eq!(status(&mut sender, long).await, 431);
    assert_eq!(status(&mut sender, ask("/")).await, 200);
    assert_eq!(world.seen(), 2);
}

#[tokio::test]
async fn two_lengths_are_refused() {
    let world = World::hello(patient()).await;
    let (mut sender, _driver) = client(&world).await;
    let mut frames = Frames::open(&world).await;
    // content-length: 0, twice.
    let head = [GET, &[0x5c, 0x01, b'0', 0x5c, 0x01, b'0']].concat();
    frames.0.offer(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)).await;
    let (_, head) = frames.until(HEADERS).await.unwrap();
    assert_eq!(head[0], 0x8c, "the fourth of the indexed statuses is 400");
    assert_eq!((world.seen(), world.counters.violations(Violation::ContentLength)), (0, 1));
    assert_eq!(status(&mut sender, ask("/")).await, 200);
}

#[tokio::test]
async fn a_caller_that_floods_and_does_not_read_is_cut() {
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
        let world = World::hello(Limits { write_timeout: SOON, ..patient() }).await;
        let mut raw = world.connect_narrow().await;
        raw.offer(PREFACE).await;
        raw.offer(frame(SETTINGS, 0, 0, &[])).await;
        let flood = frame(kind, 0, 0, payload).repeat(10_000);
        let mut writer = JoinSet::new();
        writer.spawn(async move {
            // Ends when the connection does.
            while raw.0.write_all(&flood).await.is_ok() {}
        });
        until(|| world.counters.accepted() == 1).await;
        for _ in 0..20 {
            world.assert_serves().await;
        }
        within(writer.join_next()).await;
        until(|| world.counters.open() == 0).await;
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_refused_and_other_streams_go_on() {
    let world = World::hello(Limits { body_timeout: SOON, ..patient() }).await;
    let (mut sender, _driver) = client(&world).await;
    let (mut feed, body) = http_body_util::channel::Channel::<bytes::Bytes, std::io::Error>::new(1);
    let stalled = Request::post("http://a/").body(Body::stream(body)).unwrap();
    let answer = sender.send_request(stalled);
    feed.send_data("half".into()).await.unwrap();
    assert_eq!(status(&mut sender, ask("/")).await, 200);
    assert_eq!(within(answer).await.unwrap().status(), 408);
    assert_eq!(status(&mut sender, ask("/")).await, 200);
    assert_eq!(world.counters.count(Count::BodyTimeout), 1);
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_reset_and_others_go_on() {
    let world = World::plain(Limits { write_timeout: SOON, ..patient() }, |asked: Asked| async move {
        if asked.uri().path() == "/big" { Response::new(zeros(1 << 20)) } else { answer(200, "done") }
    })
    .await;
    let mut frames = Frames::open(&world).await;
    let big = [&[0x82, 0x86, 0x41, 0x01, b'a'][..], &[0x04, 0x04], b"/big"].concat();
    frames.0.offer(frame(HEADERS, END_STREAM | END_HEADERS, 1, &big)).await;
    // The first 65,535 bytes are sent, and no more is asked for.
    let (stream, _) = frames.until(RST_STREAM).await.unwrap();
    assert_eq!((stream, world.counters.count(Count::WriteTimeout)), (1, 1));
    frames.0.offer(frame(HEADERS, END_STREAM | END_HEADERS, 3, GET)).await;
    let (stream, _) = frames.until(HEADERS).await.unwrap();
    assert_eq!(stream, 3);
    until(|| world.counters.under_way() == 0).await;
}

#[tokio::test]
async fn a_stream_that_is_read_slowly_comes_whole() {
    let world = World::plain(Limits { write_timeout: SOON, ..patient() }, |_| async {
        Response::new(zeros(1 << 20))
    })
    .await;
    let (mut sender, _driver) = client(&world).await;
    let mut body = within(sender.send_request(ask("/"))).await.unwrap().into_body();
    let (mut read, mut paused) = (0, 0);
    while let Some(frame) = within(body.frame()).await {
        read += frame.unwrap().into_data().unwrap().len();
        if read > paused + (100 << 10) {
            tokio::time::sleep(SOON / 3).await;
            paused = read;
        }
    }
    assert_eq!((read, world.counters.count(Count::WriteTimeout)), (1 << 20, 0));
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let world = World::hello(Limits { idle_timeout: SOON, ..patient() }).await;
    let mut frames = Frames::open(&world).await;
    frames.0.offer(frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)).await;
    assert_eq!(frames.until(DATA).await.unwrap().1, b"hello 0");
    assert_eq!(frames.goaway().await, 0);
    assert_eq!(world.counters.count(Count::IdleTimeout), 1);
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone() {
    // The pings begin after `write_timeout` and are waited for as long as for a head.
    let limits = Limits { write_timeout: SOON, header_timeout: SOON, ..patient() };
    let world = World::plain(limits, |_| std::future::pending()).await;
    let mut frames = Frames::open(&world).await;
    frames.0.offer(frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)).await;
    until(|| world.seen() == 1).await;
    frames.0.closed().await;
    until(|| world.counters.open() == 0 && world.counters.under_way() == 0).await;
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_its_request_and_no_other() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let world = World::plain(patient(), move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, "done")
        }
    })
    .await;
    let (mut sender, _driver) = client(&world).await;
    let (left, stays) = (sender.send_request(ask("/")), sender.send_request(ask("/")));
    until(|| world.counters.under_way() == 2).await;
    drop(left);
    until(|| world.counters.under_way() == 1).await;
    opened.add_permits(1);
    assert_eq!(within(stays).await.unwrap().status(), 200);
}
