//! A wire between a client and a server that a test can cut, slow down and clog.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

#[derive(Debug, Clone)]
struct State {
    /// Where new connections lead to.
    server: SocketAddr,
    /// How often everything was cut.
    cuts: u64,
    refuses: bool,
    clogged: [bool; 2],
    /// How many connections have bytes that are stuck.
    stuck: [u32; 2],
    delay: Duration,
    /// How many answers are still to be lost.
    losses: u32,
}

/// A listener on 127.0.0.1 that carries every connection on to one server.
pub struct Wire {
    address: SocketAddr,
    state: watch::Sender<State>,
    _carriers: JoinSet<()>,
}

impl Wire {
    /// A wire to `server`. It ends when this is dropped.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        let state = State {
            server,
            cuts: 0,
            refuses: false,
            clogged: [false; 2],
            delay: Duration::ZERO,
            losses: 0,
            stuck: [0; 2],
        };
        let state = watch::Sender::new(state);
        let mut carriers = JoinSet::new();
        carriers.spawn(accept(listener, state.clone()));
        Self { address, state, _carriers: carriers }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another server, and resets those that there are.
    pub fn lead_to(&self, server: SocketAddr) {
        self.state.send_modify(|it| it.server = server);
        self.cut();
    }

    /// Resets every connection that there is. New ones work.
    pub fn cut(&self) {
        self.state.send_modify(|it| (it.cuts, it.stuck) = (it.cuts + 1, [0; 2]));
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.state.send_modify(|it| it.refuses = refuses);
    }

    /// Whether bytes that go this way get stuck. Nothing is lost and nobody is told, as on a half-open connection.
    pub fn clog(&self, way: Way, clogged: bool) {
        self.state.send_modify(|it| it.clogged[way as usize] = clogged);
    }

    /// Waits until bytes are stuck that go this way: their sender believes that they arrive.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn until_stuck(&self, way: Way) {
        // The wire has a sender of its own.
        let _ = self.state.subscribe().wait_for(|it| it.stuck[way as usize] > 0).await;
    }

    /// How long bytes take, each way.
    pub fn slow_down(&self, delay: Duration) {
        self.state.send_modify(|it| it.delay = delay);
    }

    /// Loses the next `count` answers of the server, whatever they are, and resets their connections: the server has
    /// done what it was asked, and nobody is told.
    pub fn lose_answers(&self, count: u32) {
        self.state.send_modify(|it| it.losses = count);
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("address", &self.address).field("state", &*self.state.borrow()).finish()
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if state.borrow().refuses {
            continue;
        }
        connections.spawn(carry(client, state.clone()));
    }
}

/// Carries one connection until an end closes it or the wire is cut. A cut resets both ends.
async fn carry(client: TcpStream, state: watch::Sender<State>) {
    let (mut changes, State { server, cuts, .. }) = (state.subscribe(), state.borrow().clone());
    let Ok(server) = TcpStream::connect(server).await else { return };
    for end in [&client, &server] {
        let set = end.set_nodelay(true).and_then(|()| end.set_zero_linger());
        set.expect("a fresh connection takes its options");
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(Way::There, from_client, to_server, &state);
    let back = pump(Way::Back, from_server, to_client, &state);
    tokio::select! {
        _ = there => {}
        _ = back => {}
        _ = changes.wait_for(|it| it.cuts != cuts) => {}
    }
}

async fn pump(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &watch::Sender<State>,
) -> io::Result<()> {
    let (mut changes, cuts) = (state.subscribe(), state.borrow().cuts);
    let mut bytes = vec![0; 1 << 16];
    loop {
        let len = from.read(&mut bytes).await?;
        if len == 0 {
            return Ok(());
        }
        let is_lost = way == Way::Back
            && state.send_if_modified(|it| {
                let loses = it.losses > 0;
                it.losses -= u32::from(loses);
                loses
            });
        if is_lost {
            return Ok(());
        }
        let delay = state.borrow().delay;
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        if state.borrow().clogged[way as usize] {
            state.send_modify(|it| it.stuck[way as usize] += 1);
            // The wire outlives what it carries.
            let _ = changes.wait_for(|it| !it.clogged[way as usize]).await;
            state.send_modify(|it| it.stuck[way as usize] = it.stuck[way as usize].saturating_sub(1));
            // What was stuck when it was cut never arrives, though it be unclogged at once.
            if state.borrow().cuts != cuts {
                return Ok(());
            }
        }
        to.write_all(&bytes[..len]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::within;

    /// A server that sends back what it gets, and notes it.
    async fn echo() -> (SocketAddr, watch::Receiver<usize>, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, seen) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                let heard = heard.clone();
                connections.spawn(async move {
                    let mut byte = [0];
                    while peer.read_exact(&mut byte).await.is_ok() {
                        heard.send_modify(|it| *it += 1);
                        if peer.write_all(&byte).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        (address, seen, tasks)
    }

    async fn ask(client: &mut TcpStream) -> io::Result<u8> {
        client.write_all(b"x").await?;
        client.read_u8().await
    }

    #[tokio::test]
    async fn a_cut_resets_what_is_there_and_a_refusal_what_comes() {
        let (server, _heard, _tasks) = echo().await;
        let wire = Wire::to(server).await;
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(within(ask(&mut client)).await.unwrap(), b'x');
        wire.cut();
        assert!(within(client.read_u8()).await.is_err());
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(within(ask(&mut client)).await.unwrap(), b'x', "a new one works");
        wire.refuse(true);
        let mut late = TcpStream::connect(wire.address()).await.unwrap();
        assert!(within(ask(&mut late)).await.is_err());
        assert_eq!(within(ask(&mut client)).await.unwrap(), b'x', "what was there stays");
    }

    #[tokio::test]
    async fn a_wire_can_lead_to_another_server() {
        let ((one, heard, _one), (two, others, _two)) = (echo().await, echo().await);
        let wire = Wire::to(one).await;
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(within(ask(&mut client)).await.unwrap(), b'x');
        wire.lead_to(two);
        assert!(within(ask(&mut client)).await.is_err());
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(within(ask(&mut client)).await.unwrap(), b'x');
        assert_eq!((*heard.borrow(), *others.borrow()), (1, 1));
    }

    #[tokio::test]
    async fn what_is_clogged_arrives_later_and_what_is_lost_never() {
        let (server, mut heard, _tasks) = echo().await;
        let wire = Wire::to(server).await;
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        wire.clog(Way::Back, true);
        client.write_all(b"x").await.unwrap();
        within(heard.wait_for(|it| *it == 1)).await.unwrap();
        assert!(
            crate::for_polls(1, client.read_u8()).await.is_none(),
            "the server has it, the client not yet"
        );
        wire.clog(Way::Back, false);
        assert_eq!(within(client.read_u8()).await.unwrap(), b'x');
        wire.clog(Way::There, true);
        client.write_all(b"x").await.unwrap();
        within(wire.until_stuck(Way::There)).await;
        assert_eq!(*heard.borrow(), 1);
        wire.clog(Way::There, false);
        assert_eq!(within(client.read_u8()).await.unwrap(), b'x');
        wire.lose_answers(1);
        assert!(within(ask(&mut client)).await.is_err());
        assert_eq!(*heard.borrow(), 3, "it was done");
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        wire.slow_down(Duration::from_millis(1));
        assert_eq!(within(ask(&mut client)).await.unwrap(), b'x', "only so many are lost");
    }
}
