//! `tokio::sync::Notify` as far as flights use it, over loom's locks: tokio's own knows loom only where all of tokio is
//! built for it.
//!
//! A ring is heard by everyone who began to listen before it, polled or not; that is what tokio documents for
//! `notify_waiters` and `notified_owned`, and [`tokio_keeps_the_same_promise`] holds it to that.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Bell(Mutex<Rung>);

#[derive(Debug, Default)]
struct Rung {
    times: usize,
    asleep: Vec<Waker>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Rung::default()))
    }

    pub(crate) fn notify_waiters(&self) {
        let asleep = {
            let mut rung = self.0.lock().unwrap();
            rung.times += 1;
            std::mem::take(&mut rung.asleep)
        };
        asleep.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn notified_owned(self: Arc<Self>) -> Ring {
        let heard = self.0.lock().unwrap().times;
        Ring { bell: self, heard }
    }
}

/// Completes at the next ring after it was made.
#[derive(Debug)]
pub(crate) struct Ring {
    bell: Arc<Bell>,
    heard: usize,
}

impl Future for Ring {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut rung = self.bell.0.lock().unwrap();
        if rung.times > self.heard {
            return Poll::Ready(());
        }
        rung.asleep.push(cx.waker().clone());
        Poll::Pending
    }
}

#[test]
fn tokio_keeps_the_same_promise() {
    use futures_util::FutureExt as _;
    let bell = Arc::new(tokio::sync::Notify::new());
    let before = Arc::clone(&bell).notified_owned();
    let mut polled = Box::pin(Arc::clone(&bell).notified_owned());
    assert_eq!(polled.as_mut().now_or_never(), None);
    bell.notify_waiters();
    let after = Arc::clone(&bell).notified_owned();
    assert_eq!(before.now_or_never(), Some(()), "not polled before the ring");
    assert_eq!(polled.now_or_never(), Some(()));
    assert_eq!(after.now_or_never(), None, "a ring is not heard by those who come later");
}
