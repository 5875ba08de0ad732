//! The payment API of the demo: a small real HTTP server that knows nothing of repeats.
//!
//! Each call has its effect each time, also when its caller has left before the answer. Headers of the request
//! can make it slow, fail or cut the connection: see [`switches`].

mod answer;
mod api;
mod input;
mod switches;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use self::switches::Cut;

/// How long calls that are under way may take to end after the stop.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves the payment API on `listen` until SIGTERM or Ctrl-C. Port 0 takes a free one; the first line on
/// stdout tells which.
///
/// # Errors
/// The address cannot be listened on, or stdout is closed.
pub(crate) async fn run(listen: SocketAddr) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("failed to listen on {listen}: {error}")))?;
    greet(&mut io::stdout().lock(), listener.local_addr()?)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(listener, stop).await
}

fn greet(out: &mut impl Write, address: SocketAddr) -> io::Result<()> {
    writeln!(out, "payment API listens on http://{address}")?;
    writeln!(out, "It charges again each time it is asked. Try:")?;
    writeln!(out, "  curl -i http://{address}/payments -d '{{\"account\":\"alice\",\"amount\":1200}}'")?;
    writeln!(
        out,
        "  curl -i http://{address}/transfers -d '{{\"from\":\"alice\",\"to\":\"carol\",\"amount\":500}}'"
    )?;
    writeln!(out, "  curl http://{address}/accounts/alice")?;
    writeln!(out, "  curl 'http://{address}/payments?account=alice'")?;
    writeln!(out, "Headers make it misbehave, for example -H 'Demo-Cut: yes' or -H 'Demo-Delay: 2s'.")?;
    out.flush()
}

/// Serves the payment API, with the opening balances, on `listener` until `stop` is ready. Then calls that are
/// under way get two seconds to end; what is left after them is cut off.
///
/// # Errors
/// None at present: a connection that breaks ends alone.
///
/// # Cancel safety
/// Dropping this future stops accepting; calls that are under way end on their own.
pub(crate) async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    let work = Work::default();
    let router = api::router(work.clone());
    let closing = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let socket = tokio::select! {
            () = &mut stop => break,
            socket = accept(&listener) => socket,
        };
        let router = router.clone();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(socket), service_fn(move |request| call(router.clone(), request)));
        let connection = closing.watch(connection);
        // A connection ends in an error when it is cut on request or its caller leaves: nobody is to be told.
        work.start(async move { drop(connection.await) });
    }
    drop(listener);
    work.tasks.close(); // from here on `wait` can end; calls that are under way may still start tasks
    let drained = async {
        closing.shutdown().await;
        work.tasks.wait().await;
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        work.cut.cancel();
        work.tasks.wait().await;
    }
    Ok(())
}

/// The next connection. A failed accept concerns one caller, or passes (too many open files): try on.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // Without it small answers may wait for an acknowledgement; a refusal costs only time.
                drop(socket.set_nodelay(true));
                return socket;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Hands `request` to the API. An error makes hyper close the connection without any answer: the only way
/// to do so, and the reason why this server does not use `axum::serve`.
async fn call(mut router: Router, request: Request<Incoming>) -> io::Result<Response<Body>> {
    match router.call(request).await {
        Ok(response) if response.extensions().get::<Cut>().is_none() => Ok(response),
        Ok(_) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on request")),
        Err(never) => match never {},
    }
}

/// The tasks that the end of the server waits for, and the way to end them sooner.
#[derive(Debug, Clone, Default)]
struct Work {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Work {
    /// Starts `task`, which ends without an output when the server cuts it off.
    fn start<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<Option<T>> {
        self.tasks.spawn(self.cut.clone().run_until_cancelled_owned(task))
    }
}
