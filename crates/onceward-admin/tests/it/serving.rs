use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use onceward_admin::{AdminState, AnswerWriter, Doctor, Metrics, Reload, Token, Upstreams, router, serve};
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Answer, Engine, SystemClock};
use onceward_testkit::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

#[tokio::test]
async fn the_pages_are_served_until_told_to_stop() {
    let router = router(AdminState {
        engine: Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock)))),
        metrics: Metrics::new([""; 0]),
        token: Token::parse("0123456789abcdef").unwrap(),
        draining: Arc::new(AtomicBool::new(false)),
        ready_requires_store: false,
        answers: AnswerWriter::new(|it| Ok(Answer::new("text", it.body))),
        reload: Reload::none(),
        doctor: Doctor::none(),
        upstreams: Upstreams::none(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, router, async {
        let _ = stopped.await;
    }));
    // Kept alive and idle: it must not hold up the end.
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut bytes = [0; 15];
    within(connection.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 200 OK");
    stop.send(()).unwrap();
    within(serving.join_next()).await.unwrap().unwrap().unwrap();
    TcpStream::connect(address).await.unwrap_err();
}
