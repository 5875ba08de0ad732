//! Services that add effects in transactions which commit or not, sooner or later.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::Field;
use crate::Result;
use crate::time::ms;

const ADDERS: usize = 32;
const KEYS: usize = 100;
const ADD: &str = "SELECT encode(onceward_outbox_add_1(NULL, 'queue', 'effects', $1, '{}', '{}', $2, false), 'hex'), \
                   currval(pg_get_serial_sequence('onceward_outbox', 'seq'))";

/// An effect that was added.
#[derive(Debug, Clone)]
pub(super) struct Added {
    /// What it is told by: its body.
    pub(super) label: String,
    pub(super) key: Option<usize>,
    pub(super) id: String,
    pub(super) number: i64,
    /// Whether nobody knows whether it was committed: its server died.
    pub(super) in_doubt: bool,
}

/// What was committed, or may be, each key in the order of commits; and how many were rolled back.
#[derive(Debug, Default)]
pub(super) struct Committed {
    pub(super) effects: Vec<Added>,
    pub(super) rolled_back: u64,
}

type Book = Arc<Mutex<Committed>>;

/// Adds as many as the run wants, spread over its time.
pub(super) fn add(field: &Field<'_>) -> Result<Committed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (book, left) = (Book::default(), Arc::new(AtomicUsize::new(field.args.rows)));
    let seconds = Duration::from_secs(field.args.seconds);
    // A transaction adds 2.5 on average, and four in five commit.
    let pause = seconds.mul_f64(2.0 * ADDERS as f64 / field.args.rows.max(1) as f64);
    runtime.block_on(async {
        let mut adders = JoinSet::new();
        for number in 0..ADDERS {
            let rng = Rng::with_seed(field.args.subject.seed ^ (number as u64) << 32);
            let url = field.database.url("onceward");
            adders.spawn(adder(url, rng, number, Arc::clone(&book), Arc::clone(&left), pause));
        }
        adders.join_all().await;
    });
    drop(runtime);
    let book = Arc::into_inner(book).ok_or("an adder is still there")?;
    Ok(book.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn adder(url: String, mut rng: Rng, adder: usize, book: Book, left: Arc<AtomicUsize>, pause: Duration) {
    let mut connected = connect(&url).await;
    for transaction in 0.. {
        tokio::time::sleep(pause.mul_f64(rng.f64() * 2.0)).await;
        let (count, commits) = (rng.usize(1..=4), rng.u32(0..5) > 0);
        let taken = |it: usize| it.checked_sub(count);
        if commits && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).is_err() {
            return;
        }
        let mut wanted: Vec<_> = (0..count)
            .map(|nth| {
                let key = (rng.u32(0..5) > 0).then(|| rng.usize(0..KEYS));
                (key, format!("{adder}/{transaction}/{nth}{}", if commits { "" } else { " undone" }))
            })
            .collect();
        // In one order for all: nobody waits in a circle.
        wanted.sort_by_key(|it| it.0);
        let open = ms(if rng.u32(0..20) == 0 { 300 } else { rng.u64(0..20) });
        while once(&mut connected.client, &wanted, commits, open, &book).await.is_err() {
            // Nothing of it is there, or its outcome is in doubt and noted so; what was not noted is added anew.
            connected = connect(&url).await;
            if book
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .effects
                .iter()
                .any(|it| it.label == wanted[0].1)
            {
                break;
            }
        }
    }
}

async fn once(
    client: &mut Client,
    wanted: &[(Option<usize>, String)],
    commits: bool,
    open: Duration,
    book: &Book,
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let mut added = Vec::new();
    for (key, label) in wanted {
        let name = key.map(|it| it.to_string().into_bytes());
        let row = transaction.query_one(ADD, &[&name, &label.as_bytes()]).await?;
        added.push(Added {
            label: label.clone(),
            key: *key,
            id: row.get(0),
            number: row.get(1),
            in_doubt: true,
        });
    }
    tokio::time::sleep(open).await;
    let note =
        |of: &mut dyn FnMut(&mut Committed)| of(&mut book.lock().unwrap_or_else(PoisonError::into_inner));
    if !commits {
        note(&mut |it| it.rolled_back += added.len() as u64);
        return transaction.rollback().await;
    }
    // Whoever adds to these keys waits for this commit.
    let labels: HashMap<_, _> = added.iter().map(|it| (it.label.clone(), ())).collect();
    note(&mut |it| it.effects.append(&mut added));
    transaction.commit().await?;
    note(&mut |it| {
        for effect in
            it.effects.iter_mut().rev().filter(|it| labels.contains_key(&it.label)).take(labels.len())
        {
            effect.in_doubt = false;
        }
    });
    Ok(())
}

/// A connection, and the task that drives it.
struct Connected {
    client: Client,
    _driver: JoinSet<()>,
}

async fn connect(url: &str) -> Connected {
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            let mut driver = JoinSet::new();
            driver.spawn(async {
                // What is wrong with it, its client is told.
                let _ = connection.await;
            });
            return Connected { client, _driver: driver };
        }
        tokio::time::sleep(ms(50)).await;
    }
}
