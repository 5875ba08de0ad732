//! Where connections come from and go to: the network of this machine, or one that is handed in.
//!
//! A simulation hands one in. On the machine's own network none of this costs anything: callers' sockets are
//! a type parameter, and upstreams' sockets are one more variant of an enum that is matched anyway.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Accepts connections of callers.
pub trait Listener: Send + Sync + 'static {
    /// One connection.
    type Socket: CallerSocket;

    /// Waits for the next connection.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    /// # Cancel safety
    /// Dropping this accepts nothing.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// Where it listens.
    ///
    /// # Errors
    /// The network cannot tell.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connection of a caller.
pub trait CallerSocket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether small writes are sent at once.
    ///
    /// # Errors
    /// The connection is gone.
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;

    /// Waits for the first bytes and leaves them to be read; 0 when none will come.
    ///
    /// # Errors
    /// The connection is gone.
    fn peek(&mut self, into: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// From now on the runtime that calls this wakes whoever waits for the connection, where that makes a
    /// difference.
    ///
    /// # Errors
    /// The connection is gone.
    fn move_here(self) -> io::Result<Self>
    where
        Self: Sized,
    {
        Ok(self)
    }
}

impl Listener for TcpListener {
    type Socket = TcpStream;

    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        self.accept()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl CallerSocket for TcpStream {
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set_nodelay(nodelay)
    }

    fn peek(&mut self, into: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send {
        (*self).peek(into)
    }

    fn move_here(self) -> io::Result<Self> {
        Self::from_std(self.into_std()?)
    }
}

/// How connections to upstreams are made.
#[derive(Clone, Default)]
pub enum Dial {
    /// Over the network of this machine.
    #[default]
    Machine,
    /// Over another one. TLS is not spoken there: an `https://` upstream cannot be reached.
    Other(Arc<dyn Dialer>),
}

/// Makes connections over a network that is not the machine's.
pub trait Dialer: Send + Sync + 'static {
    /// Connects. The caller bounds the time that it takes.
    ///
    /// # Errors
    /// Nobody listens there, or it cannot be reached. Nothing was sent.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Wire>>>;
}

/// The bytes of a connection that was dialled.
pub trait Wire: AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send + 'static> Wire for T {}

/// A socket before TLS.
#[derive(Debug)]
pub(crate) enum Dialled {
    Machine(TcpStream),
    Other(Box<dyn Wire>),
}

impl Dial {
    pub(crate) async fn dial(&self, to: SocketAddr) -> io::Result<Dialled> {
        match self {
            Self::Machine => {
                let socket = if to.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
                // So that a peer that vanished under a silent stream is found at last.
                socket.set_keepalive(true)?;
                let stream = socket.connect(to).await?;
                // A request is written whole; waiting for more bytes would only delay it.
                stream.set_nodelay(true)?;
                Ok(Dialled::Machine(stream))
            }
            Self::Other(dialer) => Ok(Dialled::Other(dialer.dial(to).await?)),
        }
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "Dial(machine)",
            Self::Other(_) => "Dial(other)",
        })
    }
}
