//! The threads that serve callers: each has a runtime of its own, and a connection stays where it was put.
//!
//! All that a request needs (its caller's connection, its work, its connection to the upstream) then wakes on one
//! thread, without a lock that another holds and without a wake-up from core to core. The store alone is shared.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

thread_local! {
    static SEAT: Cell<usize> = const { Cell::new(0) };
}

/// Which of the workers this thread is, from 1; 0: none of them.
pub(crate) fn seat() -> usize {
    SEAT.get()
}

/// The threads that serve callers. Clones are the same threads; they end when the last clone goes.
///
/// The default is none: connections are served on the runtime that the gateway is started on.
#[derive(Clone, Default)]
pub struct Workers {
    all: Arc<[Worker]>,
    _stop: Option<Arc<DropGuard>>,
}

struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts as many threads.
    ///
    /// # Errors
    /// The system has no thread or no descriptor to give. None is left running.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let start = |seat| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let stop = stop.clone();
            std::thread::Builder::new().name(format!("worker-{seat}")).spawn(move || {
                SEAT.set(seat);
                runtime.block_on(stop.cancelled());
                // A name lookup may still hang on a thread; nobody waits for it.
                runtime.shutdown_background();
            })?;
            Ok(Worker { runtime: handle, connections: Arc::default() })
        };
        let all = (1..=count.get()).map(start).collect::<io::Result<_>>()?;
        Ok(Self { all, _stop: Some(Arc::new(guard)) })
    }

    /// How many there are; 0: connections are served where the gateway was started.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Serves a connection on the thread that has the fewest, or on the current runtime where there are none.
    /// `tasks` knows of it at once.
    pub(crate) fn serve(&self, tasks: &TaskTracker, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.all.iter().min_by_key(|it| it.connections.load(Ordering::Relaxed)) else {
            tasks.spawn(connection);
            return;
        };
        let open = Open::new(&worker.connections);
        let connection = async move {
            let _open = open;
            connection.await;
        };
        tasks.spawn_on(connection, &worker.runtime);
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workers({})", self.all.len())
    }
}

/// A connection that counts at its worker until this is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_connection_goes_to_the_thread_with_the_fewest_and_stays_there() {
        let workers = Workers::start(NonZeroUsize::new(3).unwrap()).unwrap();
        let (tell, told) = mpsc::channel();
        let tasks = TaskTracker::new();
        let serve = |hold: CancellationToken| {
            let (tell, begun) = (tell.clone(), TaskTracker::new());
            workers.serve(&tasks, async move {
                let before = seat();
                tokio::task::yield_now().await;
                begun.spawn(async move { tell.send((before, seat())).unwrap() });
                hold.cancelled().await;
            });
            let (before, after) = told.recv().unwrap();
            assert_eq!(before, after);
            before
        };
        let (first, others) = (CancellationToken::new(), CancellationToken::new());
        let one = serve(first.clone());
        let mut all = vec![one, serve(others.clone()), serve(others.clone())];
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(tasks.len(), 3);
        first.cancel();
        while tasks.len() > 2 {
            std::thread::yield_now();
        }
        assert_eq!(serve(others.clone()), one);
        others.cancel();
        assert_eq!(seat(), 0);
    }

    #[tokio::test]
    async fn without_threads_of_its_own_it_is_served_here() {
        let here = std::thread::current().id();
        let (tell, told) = tokio::sync::oneshot::channel();
        let tasks = TaskTracker::new();
        Workers::default().serve(&tasks, async move { tell.send(std::thread::current().id()).unwrap() });
        assert_eq!(told.await.unwrap(), here);
    }
}
