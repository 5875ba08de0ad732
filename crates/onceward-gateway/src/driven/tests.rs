use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::*;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// Counts how often a task is polled.
struct Counted<C>(C, Arc<AtomicUsize>);

impl<C: Future + Unpin> Future for Counted<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Reads every piece of a body through [`poll_frame`].
async fn read(mut body: Incoming) -> usize {
    let mut bytes = 0;
    while let Some(frame) = std::future::poll_fn(|cx| poll_frame(&mut body, cx)).await {
        bytes += frame.unwrap().into_data().map_or(0, |it| it.len());
    }
    bytes
}

/// Serves one request whose body comes in `pieces`; gives what its reader got, and how often the connection was polled.
async fn served(pieces: &[&str]) -> (usize, usize) {
    let (mut caller, server) = tokio::io::duplex(64 << 10);
    let (taken, mut bodies) = tokio::sync::mpsc::channel(1);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        taken.try_send(request.into_body()).unwrap();
        std::future::pending::<Result<Response<Full<Bytes>>, hyper::Error>>()
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let polls = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(Counted(Driven::new(connection), Arc::clone(&polls)));
    let bytes: usize = pieces.iter().map(|it| it.len()).sum();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n");
    caller.write_all(format!("{head}{}", pieces[0]).as_bytes()).await.unwrap();
    let reading = read(bodies.recv().await.unwrap());
    let writing = async {
        for piece in &pieces[1..] {
            caller.write_all(piece.as_bytes()).await.unwrap();
            // The connection, the only other task, has its turn.
            tokio::task::yield_now().await;
        }
    };
    let both = async { tokio::join!(reading, writing).0 };
    let read = tokio::time::timeout(DEADLINE, both).await.expect("the body comes to its end");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let polls = polls.load(Ordering::Relaxed);
    tasks.abort_all();
    drop(caller);
    (read, polls)
}

#[tokio::test]
async fn a_connection_is_not_polled_again_for_a_body_that_has_ended() {
    let (read, polls) = served(&["whole"]).await;
    assert_eq!((read, polls), (5, 1), "when the request came");
}

#[tokio::test]
async fn a_connection_reads_on_when_a_piece_is_taken_that_is_not_the_last() {
    let (read, _) = served(&["in ", "three ", "pieces"]).await;
    assert_eq!(read, 15);
}

#[tokio::test]
async fn a_wake_up_that_has_nothing_to_do_with_a_body_goes_through() {
    let woken = Arc::new(AtomicUsize::new(0));
    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let gate = || Waker::from(Arc::new(Gate(Waker::from(Arc::new(Count(Arc::clone(&woken)))))));
    let woken = || woken.load(Ordering::Relaxed);
    gate().wake();
    assert_eq!(woken(), 1);
    let held_back = HeldBack::begin();
    gate().wake();
    assert_eq!(woken(), 1, "while a piece is taken");
    drop(held_back);
    assert_eq!(woken(), 2, "it is made up for");
    let held_back = HeldBack::begin();
    gate().wake();
    drop(held_back.take());
    drop(held_back);
    gate().wake();
    assert_eq!(woken(), 3, "the one of the last piece is not");
}
