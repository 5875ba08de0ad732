//! An axum application whose payments are safe to repeat: `cargo run -p onceward-http --example axum_payments`,
//! then the curl lines that it prints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Engine, SystemClock};
use onceward_http::{HttpPolicy, IdempotencyLayer, KeyRule, PathPattern, Route, Routes};

/// Takes the money. Nothing in here knows of keys or repeats.
async fn pay(State(charged): State<Arc<AtomicU64>>, amount: String) -> (StatusCode, String) {
    let nth = charged.fetch_add(1, Ordering::Relaxed) + 1;
    (StatusCode::CREATED, format!("charge number {nth}: {amount}\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
    let payments = Route {
        name: "payments".into(),
        methods: Vec::new(), // POST and PATCH
        path: PathPattern::parse("/payments")?,
        policy: HttpPolicy { key: KeyRule::Required, ..HttpPolicy::default() },
        fresh_connection: false,
    };
    let layer = IdempotencyLayer::new(engine.clone(), Routes::new(vec![payments], HttpPolicy::default()));
    let app =
        Router::new().route("/payments", post(pay)).with_state(Arc::new(AtomicU64::new(0))).layer(layer); // Outside of any `nest`, so that it sees each path as it was sent.

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/payments", listener.local_addr()?);
    println!("curl -i {url} -d '12 EUR' -H 'Idempotency-Key: order-1'   # charged once");
    println!("curl -i {url} -d '12 EUR' -H 'Idempotency-Key: order-1'   # the same answer again");
    println!("curl -i {url} -d '13 EUR' -H 'Idempotency-Key: order-1'   # refused: another request");
    println!("curl -i {url} -d '12 EUR'                                 # refused: no key");

    // Whoever owns the engine also keeps it tidy.
    let upkeep = async {
        loop {
            if let Err(error) = engine.maintain().await {
                eprintln!("upkeep: {error}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        served = axum::serve(listener, app) => Ok(served?),
        () = upkeep => Ok(()),
    }
}
