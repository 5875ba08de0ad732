//! The API behind the gateway, in this process, on a thread of its own.
//!
//! | path | what it does |
//! |---|---|
//! | `/fast` | answers at once with its serial number and what it was sent |
//! | `/hang` | answers only once [`Upstream::release`] is called |
//! | `/sink` | reads a body, counts and hashes it (`?plain` only counts) |
//! | `/echo` | sends the body back as it comes, with the trailer `grpc-status: 0` |
//! | `/sse?seconds=30` | ten events a second |
//! | `/big?blocks=1600` | so many blocks of 64 KiB |
//! | `/upgrade` | 101, then sends back what it gets |
//! | anything else | 404, and the path is remembered: nobody honest asks for it |

mod answer;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Result;

/// A running upstream. Its thread ends with it.
#[derive(Debug)]
pub struct Upstream {
    /// Two addresses that speak HTTP/1.1.
    pub http1: [SocketAddr; 2],
    /// The address that speaks HTTP/2 with prior knowledge.
    pub h2c: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    serial: AtomicU64,
    hanging: AtomicU64,
    sunk: AtomicU64,
    generation: watch::Sender<u64>,
    strange: Mutex<BTreeSet<String>>,
    tracker: TaskTracker,
}

impl Upstream {
    /// Starts listening on free ports of the loopback interface.
    ///
    /// # Errors
    /// No socket or thread is to be had.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = || -> Result<TcpListener> {
            let _entered = runtime.enter();
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            // The usual backlog of 128 would make this upstream the first to give in.
            Ok(socket.listen(4096)?)
        };
        let [one, two, h2c] = [listener()?, listener()?, listener()?];
        let (http1, h2c_at) = ([one.local_addr()?, two.local_addr()?], h2c.local_addr()?);
        let state = Arc::new(State {
            serial: AtomicU64::new(0),
            hanging: AtomicU64::new(0),
            sunk: AtomicU64::new(0),
            generation: watch::Sender::new(0),
            strange: Mutex::new(BTreeSet::new()),
            tracker: TaskTracker::new(),
        });
        let stop = CancellationToken::new();
        let (its, stopped) = (Arc::clone(&state), stop.clone());
        let thread = std::thread::Builder::new().name("upstream".into()).spawn(move || {
            runtime.block_on(async {
                let all = async {
                    let [one, two] = [one, two].map(|it| accept(it, Arc::clone(&its), false));
                    tokio::join!(one, two, accept(h2c, Arc::clone(&its), true))
                };
                tokio::select! {
                    _ = all => {}
                    () = stopped.cancelled() => {}
                }
            });
        })?;
        Ok(Self { http1, h2c: h2c_at, state, stop, thread: Some(thread) })
    }

    /// The URLs of the two HTTP/1.1 addresses.
    pub fn urls(&self) -> Vec<String> {
        self.http1.iter().map(|it| format!("http://{it}")).collect()
    }

    /// Lets everything that hangs go on, and whatever hangs later hang anew.
    pub fn release(&self) {
        self.state.generation.send_modify(|it| *it += 1);
    }

    /// How many requests hang now.
    pub fn hanging(&self) -> u64 {
        self.state.hanging.load(Ordering::Relaxed)
    }

    /// How many bytes were ever sunk.
    pub fn sunk(&self) -> u64 {
        self.state.sunk.load(Ordering::Relaxed)
    }

    /// Paths that were asked for and do not exist, with the method before them.
    pub fn strange(&self) -> BTreeSet<String> {
        self.state.strange.lock().expect("no holder panics").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, h2: bool) {
    loop {
        // A failed accept concerns one connection, which its caller notices.
        let Ok((stream, _)) = listener.accept().await else { continue };
        state.tracker.spawn(serve(stream, Arc::clone(&state), h2));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>, h2: bool) {
    // Callers notice a broken connection; there is nothing to tell here.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(stream);
    let service = service_fn(move |request| answer::answer(Arc::clone(&state), request));
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    }
}
