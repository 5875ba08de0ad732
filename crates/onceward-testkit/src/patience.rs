//! Deadlines and conditions: no test sleeps to be right.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

/// How long a test waits for what must happen. It only bounds how late a broken test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The output of `future`.
///
/// # Panics
/// When it takes longer than 30 s of real time: it hangs.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    // Boxed: the futures of tests are long, and a caller's future holds this one.
    let future = Box::pin(future);
    tokio::time::timeout(DEADLINE, future).await.expect("what is awaited happens within 30 s")
}

/// Waits until `condition` holds, asking again every millisecond.
///
/// # Panics
/// When it does not hold within 30 s of real time.
pub async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    within(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Polls `future` at most `polls` times, each time after it was woken, and then drops it: `None`. This is a
/// caller that goes away at that await.
pub async fn for_polls<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
