//! An answer that is lost after the commit: it is uncertain, and what was written is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onceward_core::ErrorKind;
use onceward_core::store::{Insert, Store};
use onceward_testkit::eventually;
use onceward_testkit::server::Postgres;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::sample::{claim, completion, id, inserted, place};
use crate::support::open;

/// Passes everything on, until it is to lose the next answer: then it closes the connection in its place.
struct Proxy {
    loses: Arc<AtomicBool>,
    port: u16,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(server: &Postgres) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port());
        let loses = Arc::new(AtomicBool::new(false));
        let armed = Arc::clone(&loses);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                passing.spawn(pass(client, to, Arc::clone(&armed)));
            }
        });
        Self { loses, port, _tasks: tasks }
    }
}

async fn pass(client: TcpStream, to: u16, loses: Arc<AtomicBool>) {
    let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut asked, mut told) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            Ok(len @ 1..) = from_client.read(&mut asked) => to_server.write_all(&asked[..len]).await.unwrap(),
            Ok(len @ 1..) = from_server.read(&mut told) => {
                if loses.swap(false, Ordering::SeqCst) {
                    return;
                }
                to_client.write_all(&told[..len]).await.unwrap();
            }
            else => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_after_the_commit_is_uncertain_and_a_read_is_not() {
    let server = Postgres::shared();
    let (_, url) = place(server).await;
    let proxy = Proxy::start(server).await;
    let url = url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port));
    let store = open(&format!("{url}&sslmode=disable&connections=1")).await;
    let back = async || store.check().await.is_ok();

    proxy.loses.store(true, Ordering::SeqCst);
    let error = store.insert(id(1), &claim(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain);
    eventually(back).await;
    let told = store.insert(id(1), &claim(1)).await.unwrap();
    assert!(matches!(told, Insert::Found(..)), "it was committed, and is kept once: {told:?}");

    let record = inserted(&store, id(2)).await;
    proxy.loses.store(true, Ordering::SeqCst);
    let error = store.replace(id(2), record.revision, &completion(&record)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain);
    eventually(back).await;
    assert!(store.load(id(2)).await.unwrap().record.unwrap().revision > record.revision, "it was committed");

    proxy.loses.store(true, Ordering::SeqCst);
    assert_eq!(store.load(id(2)).await.unwrap_err().kind(), ErrorKind::Unavailable, "a read writes nothing");
    eventually(back).await;
}
