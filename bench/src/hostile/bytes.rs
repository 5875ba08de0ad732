//! Attacks below or around HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::Result;

/// Random bytes, up to 64 KiB; sometimes the connection is left half open.
pub(super) async fn random(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let bytes = some_bytes(rng, 64 * 1024);
    talk(to, &bytes).await.map(drop)
}

/// A good operation, cut anywhere; one half of the callers reset, the other half end politely.
pub(super) async fn half_request(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let text = operation(rng, "/fast", "content-length: 12\r\n", "twelve bytes");
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&text.as_bytes()[..rng.usize(1..text.len())]).await?;
    sleep(Duration::from_millis(rng.u64(..200))).await;
    if rng.bool() {
        stream.set_zero_linger()?;
    }
    Ok(())
}

/// 20,000 small headers, or two hundred large ones.
pub(super) async fn header_flood(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let (count, length) = if rng.bool() { (20_000, 8) } else { (200, 8_000) };
    let mut text = "GET /fast HTTP/1.1\r\nhost: bench.test\r\n".to_owned();
    for number in 0..count {
        text.push_str(&format!("x-{number}: {}\r\n", "y".repeat(length)));
    }
    text.push_str("\r\n");
    talk(to, text.as_bytes()).await.map(drop)
}

/// A megabyte in the target, in one header, or in the method.
pub(super) async fn oversized_head(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let long = "z".repeat(1 << 20);
    let text = match rng.u8(..3) {
        0 => format!("GET /{long} HTTP/1.1\r\nhost: bench.test\r\n\r\n"),
        1 => format!("GET /fast HTTP/1.1\r\nhost: bench.test\r\nx: {long}\r\n\r\n"),
        _ => format!("{long} /fast HTTP/1.1\r\nhost: bench.test\r\n\r\n"),
    };
    talk(to, text.as_bytes()).await.map(drop)
}

/// The head of a TLS 1.2 record with a greeting, then what may or may not be one.
pub(super) async fn tls(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let garbage = some_bytes(rng, 600);
    let mut bytes = vec![0x16, 0x03, 0x01];
    bytes.extend(u16::try_from(garbage.len() + 4).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend([0x01, 0x00]);
    bytes.extend(u16::try_from(garbage.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(garbage);
    talk(to, &bytes).await.map(drop)
}

/// Asks for 100 MiB and reads nothing for three seconds.
pub(super) async fn slow_reader(to: SocketAddr) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(b"GET /big?blocks=1600 HTTP/1.1\r\nhost: bench.test\r\n\r\n").await?;
    sleep(Duration::from_secs(3)).await;
    Ok(())
}

/// Says nothing for up to two seconds.
pub(super) async fn silent(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let _stream = TcpStream::connect(to).await?;
    sleep(Duration::from_millis(rng.u64(..2000))).await;
    Ok(())
}

/// A hundred connections, each reset at once.
pub(super) async fn churn(to: SocketAddr) -> Result<()> {
    for _ in 0..100 {
        TcpStream::connect(to).await?.set_zero_linger()?;
    }
    Ok(())
}

/// A body that comes byte by byte for two seconds, and then no more.
pub(super) async fn slow_body(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let expect = if rng.bool() {
        "content-length: 100\r\nexpect: 100-continue\r\n"
    } else {
        "content-length: 100\r\n"
    };
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(operation(rng, "/fast", expect, "").as_bytes()).await?;
    for _ in 0..20 {
        stream.write_all(b"x").await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A whole operation, whose caller is gone before the answer.
pub(super) async fn leaver(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(operation(rng, "/fast", "content-length: 4\r\n", "left").as_bytes()).await?;
    stream.set_zero_linger()?;
    Ok(())
}

/// An upload whose chunks go wrong after a good one.
pub(super) async fn bad_chunks(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    const BAD: [&str; 8] = ["zz", "-5", "+5", "fffffffffffffffffff", "0x5", "5 5", "", "5;\u{0}"];
    let bad = BAD[rng.usize(..BAD.len())];
    let head = "POST /sink HTTP/1.1\r\nhost: bench.test\r\ntransfer-encoding: chunked\r\n\r\n";
    let text = format!("{head}5\r\nhello\r\n{bad}\r\nhello\r\n0\r\n\r\n");
    talk(to, text.as_bytes()).await.map(drop)
}

/// Sends all of it, or as much as is taken, and gives what comes back within two seconds, up to 64 KiB.
pub(super) async fn talk(to: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let stream = TcpStream::connect(to).await?;
    let (reading, mut writing) = stream.into_split();
    let mut said = Vec::new();
    let mut reading = reading.take(64 * 1024);
    let write = async {
        // A refusal may come before all is sent: it shows in what is read.
        let _ = writing.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let _ = reading.read_to_end(&mut said).await;
    };
    let _ = timeout(Duration::from_secs(2), async {
        tokio::select! { () = write => {}, () = read => {} }
    })
    .await;
    Ok(said)
}

fn some_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(1..most);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

fn operation(rng: &mut Rng, path: &str, headers: &str, body: &str) -> String {
    let key = rng.u64(..);
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench.test\r\nauthorization: Bearer attacker\r\n\
         idempotency-key: hostile-{key}\r\n{headers}\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_said_before_a_close_is_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        };
        let (said, ()) = tokio::join!(talk(to, b"hello"), serve);
        assert_eq!(said.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
}
