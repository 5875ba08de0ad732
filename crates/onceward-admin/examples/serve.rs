//! The admin API over a store in memory with records in every state that does not need an hour to come about:
//! for a look by hand, and for tools that check the API against its document.
//!
//! ```text
//! cargo run -p onceward-admin --example serve -- 127.0.0.1:8081
//! curl -H 'Authorization: Bearer example-example-example' http://127.0.0.1:8081/api/v1/records
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use onceward_admin::{
    AdminState, AnswerWriter, Doctor, Finding, Findings, Level, Metrics, Reload, Reloaded, Token,
    UpstreamState, UpstreamView, Upstreams, router, serve,
};
use onceward_core::store::memory::MemoryStore;
use onceward_core::{
    Answer, Attempt, Begin, Engine, InFlight, Key, Permit, Policy, Principal, Scope, SystemClock,
};

const TOKEN: &str = "example-example-example";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".into());
    let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
    let held = fill(&engine).await?;
    let router = router(AdminState {
        engine,
        metrics: Metrics::new(["payments"]),
        token: Token::parse(TOKEN)?,
        draining: Arc::new(AtomicBool::new(false)),
        ready_requires_store: false,
        answers: AnswerWriter::new(|it| Ok(Answer::new("example", it.body))),
        reload: Reload::new(|| async {
            Ok(Reloaded { changed: vec!["routes".into()], warnings: vec!["This is an example.".into()] })
        }),
        doctor: Doctor::new(|| async { Findings { findings: vec![finding()] } }),
        upstreams: Upstreams::new(|| vec![upstream("http://127.0.0.1:1"), upstream("http://127.0.0.1:2")]),
    });
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{} with the token {TOKEN}", listener.local_addr()?);
    serve(listener, router, std::future::pending()).await?;
    // Permits that are dropped abandon their records.
    drop(held);
    Ok(())
}

/// Records to look at. The permits of the running ones are handed back, since their leases end with them.
async fn fill(engine: &Engine) -> Result<Vec<Permit>, Box<dyn Error>> {
    for number in 0..150 {
        claim(engine, &format!("done-{number}"), Policy::default())
            .await?
            .complete(Answer::new("example", "receipt"))
            .await?;
        claim(engine, &format!("unresolved-{number}"), Policy::default())
            .await?
            .abandon("the upstream hung up")
            .await?;
    }
    claim(engine, "released", Policy::default()).await?.release().await?;
    let brief = Policy { retention: Duration::from_secs(1), ..Policy::default() };
    claim(engine, "gone-after-a-second", brief).await?.complete(Answer::new("example", "")).await?;
    let mut held = Vec::new();
    for number in 0..5 {
        held.push(claim(engine, &format!("running-{number}"), Policy::default()).await?);
    }
    Ok(held)
}

async fn claim(engine: &Engine, key: &str, policy: Policy) -> Result<Permit, Box<dyn Error>> {
    let attempt = Attempt {
        scope: Scope {
            principal: Principal::from_bytes([7; 16]),
            kind: "POST".into(),
            host: "api.example.com".into(),
            path: "/payments".into(),
        },
        key: Key::parse(key)?,
        fingerprint: engine.hasher().await?.fingerprint([b"12.00 EUR".as_slice()]),
        policy,
        in_flight: InFlight::Reject,
    };
    match engine.begin(&attempt).await? {
        Begin::Run(permit) => Ok(permit),
        other => Err(format!("{key} is not free: {other:?}").into()),
    }
}

fn finding() -> Finding {
    Finding {
        level: Level::Warning,
        check: "retention-vs-retries".into(),
        setting: Some("policy.retention".into()),
        says: "Clients repeat for three days, answers are kept for one.".into(),
        remedy: Some("Set it to three days or more.".into()),
    }
}

fn upstream(url: &str) -> UpstreamView {
    UpstreamView {
        url: url.into(),
        state: UpstreamState::Ejected,
        ejected_remaining_seconds: Some(12.5),
        in_flight: 0,
        consecutive_failures: 5,
        last_error: Some("unreachable".into()),
    }
}
