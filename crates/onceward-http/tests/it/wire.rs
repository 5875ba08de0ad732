//! The application behind a real listener, and callers that write bytes themselves.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onceward_testkit::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::world::World;

/// A server; it ends when this goes.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn of(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let app = world.app.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, tasks }
    }

    /// A connection to the server.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Writes `request` and reads until the server closes; the request should say `Connection: close`.
    pub(crate) async fn say(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(stream).await
    }

    /// Sends one request over HTTP/2 without TLS.
    pub(crate) async fn say_h2c(
        &mut self,
        request: http::Request<Full<bytes::Bytes>>,
    ) -> (http::response::Parts, http_body_util::Collected<bytes::Bytes>) {
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        self.tasks.spawn(async move {
            // The connection ends with its sender; how does not matter here.
            let _ = connection.await;
        });
        let (head, body) = within(sender.send_request(request)).await.unwrap().into_parts();
        (head, within(body.collect()).await.unwrap())
    }
}

pub(crate) async fn read_to_end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The lines of an answer's head in lower case, without the one that says the time.
pub(crate) fn head(answer: &str) -> Vec<String> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().map(str::to_ascii_lowercase).filter(|it| !it.starts_with("date:")).collect()
}
