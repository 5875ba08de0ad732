//! The tasks that serve the streams of one connection of HTTP/2.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counters::{Count, Counters};
use super::sent::Pace;

tokio::task_local! {
    /// How the stream that is being served gets rid of its bytes.
    pub(super) static PACE: Arc<Pace>;
}

/// Runs each stream on a task of its own: a panic, or a caller that takes nothing, ends that stream alone.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) tasks: TaskTracker,
    /// The connection is gone.
    pub(super) gone: CancellationToken,
    pub(super) patience: Duration,
    pub(super) counters: Counters,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { gone, patience, counters, .. } = self.clone();
        let pace = Pace::new();
        self.tasks.spawn(PACE.scope(Arc::clone(&pace), async move {
            tokio::select! {
                biased;
                () = stream => {}
                () = gone.cancelled() => {}
                () = pace.stuck(patience) => counters.note(Count::WriteTimeout),
            }
        }));
    }
}
