//! A function that runs once per key, wherever it is called from: `cargo run -p onceward-core --example
//! function_guard`.

use std::sync::Arc;

use onceward_core::store::memory::MemoryStore;
use onceward_core::{
    Attempt, Engine, Failure, InFlight, Key, Policy, Principal, Run, RunError, Scope, SystemClock,
};
use serde::{Deserialize, Serialize};

/// What the caller gets, the first time and every time after.
#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    charge: String,
    cents: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the bank refused the card")]
struct Refused;

/// Takes the money. A far side that refuses old fences cannot be charged by a process that was paused.
async fn charge(order: &str, cents: u64, run: Run) -> Result<Receipt, Failure<Refused>> {
    println!("  charging {cents} cents, attempt {}, fence {}", run.attempt, run.fence);
    if cents == 0 {
        return Err(Failure::NothingHappened(Refused)); // The key is free again.
    }
    Ok(Receipt { charge: format!("ch_{order}"), cents })
}

async fn pay(engine: &Engine, order: &str, cents: u64) -> Result<Receipt, RunError<Refused>> {
    let attempt = Attempt {
        scope: Scope {
            principal: Principal::ANONYMOUS,
            kind: "charge".into(),
            host: String::new(),
            path: "card".into(),
        },
        key: Key::parse(order).expect("orders are named by visible ASCII characters"),
        fingerprint: engine.hasher().await?.fingerprint([cents.to_be_bytes().as_slice()]),
        policy: Policy::default(),
        in_flight: InFlight::Reject,
    };
    engine.run(&attempt, |run| charge(order, cents, run)).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
    for (order, cents) in
        [("order-1", 1200), ("order-1", 1200), ("order-1", 1300), ("order-2", 0), ("order-2", 500)]
    {
        println!("pay {order}, {cents} cents");
        match pay(&engine, order, cents).await {
            Ok(receipt) => println!("  {receipt:?}"),
            Err(RunError::Work(refused)) => println!("  {refused}"),
            Err(error) => println!("  {error}"),
        }
    }
}
