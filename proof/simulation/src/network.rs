//! The simulated network, as the gateway wants it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use onceward_gateway::network::{CallerSocket, Dialer, Listener, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// The port of every gateway and every upstream.
pub(crate) const PORT: u16 = 80;

/// A listener on a simulated host.
pub(crate) struct SimListener(pub(crate) TcpListener);

/// A connection of a caller on a simulated host.
#[derive(Debug)]
pub(crate) struct SimSocket(TcpStream);

impl Listener for SimListener {
    type Socket = SimSocket;

    async fn accept(&self) -> io::Result<(SimSocket, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((SimSocket(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl CallerSocket for SimSocket {
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.set_nodelay(nodelay)
    }

    fn peek(&mut self, into: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send {
        self.0.peek(into)
    }
}

impl AsyncRead for SimSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for SimSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Makes connections to upstreams over the simulated network.
#[derive(Debug)]
pub(crate) struct SimDialer;

impl Dialer for SimDialer {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(to).await?) as Box<dyn Wire>) })
    }
}
