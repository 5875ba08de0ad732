//! Payments that are safe to repeat: money, key and answer are in one PostgreSQL transaction.
//!
//! `cargo run -p onceward --features postgres-transactions --example payments -- postgres://user@host/database`, then
//! the curl lines that it prints.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use onceward::postgres::operations::{OperationError, Operations, Outcome, Work};
use onceward::{Answer, Attempt, Engine, Hasher, InFlight, Key, Policy, Principal, Scope};
use sqlx::{PgConnection, PgPool};

/// The application's own tables. Nothing in them knows of keys or repeats.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS accounts (
        name text PRIMARY KEY,
        cents bigint NOT NULL CHECK (cents >= 0)
    );
    CREATE TABLE IF NOT EXISTS payments (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account text NOT NULL REFERENCES accounts,
        cents bigint NOT NULL CHECK (cents > 0),
        currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
        paid_at timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO accounts VALUES ('anna', 100000) ON CONFLICT DO NOTHING";

/// What is asked for.
#[derive(Debug, serde::Deserialize)]
struct Wanted {
    account: String,
    cents: i64,
    currency: String,
}

/// Why nothing was paid.
#[derive(Debug, thiserror::Error)]
enum PayError {
    /// The account does not exist, or has too little on it.
    #[error("declined")]
    Declined,
    /// Some SQL failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// What handlers share.
struct Shop {
    pool: PgPool,
    operations: Operations,
    hasher: Hasher,
}

/// Takes the money and writes it down. It may be called again after all it did was undone.
async fn pay(connection: &mut PgConnection, wanted: &Wanted) -> Result<Answer, PayError> {
    let debit = "UPDATE accounts SET cents = cents - $2 WHERE name = $1 AND cents >= $2";
    let debited =
        sqlx::query(debit).bind(&wanted.account).bind(wanted.cents).execute(&mut *connection).await?;
    if debited.rows_affected() == 0 {
        return Err(PayError::Declined);
    }
    let insert = "INSERT INTO payments (account, cents, currency) VALUES ($1, $2, $3) RETURNING id";
    let insert = sqlx::query_scalar(insert).bind(&wanted.account).bind(wanted.cents).bind(&wanted.currency);
    let id: i64 = insert.fetch_one(connection).await?;
    Ok(Answer::new("json", format!("{{\"payment\":{id},\"cents\":{}}}", wanted.cents)))
}

/// Who asks for what, by which key.
fn attempt(shop: &Shop, headers: &HeaderMap, body: &Bytes) -> Option<Attempt> {
    let credential = headers.get(AUTHORIZATION);
    Some(Attempt {
        scope: Scope {
            // One caller can never see another's answers.
            principal: credential
                .map_or(Principal::ANONYMOUS, |it| shop.hasher.principal("authorization", it.as_bytes())),
            kind: "POST".into(),
            host: String::new(),
            path: "/payments".into(),
        },
        key: Key::parse(headers.get("idempotency-key")?.to_str().ok()?).ok()?,
        fingerprint: shop.hasher.fingerprint([&body[..]]),
        policy: Policy::default(),
        in_flight: InFlight::Wait(Duration::from_secs(5)),
    })
}

async fn payments(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(attempt) = attempt(&shop, &headers, &body) else {
        return (StatusCode::BAD_REQUEST, "send an Idempotency-Key of 1 to 255 visible characters\n")
            .into_response();
    };
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(it) => it,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let wanted = &wanted;
    let told = shop.operations.run(&shop.pool, &attempt, |it| Work::new(pay(it, wanted))).await;
    let answer = match told {
        Ok(Outcome::Ran(answer) | Outcome::Replayed(answer)) => answer.bytes(),
        Ok(Outcome::Busy { retry_after }) => {
            let seconds = retry_after.as_secs().max(1).to_string();
            let text = "the first request with this key is still running\n";
            return (StatusCode::CONFLICT, [(RETRY_AFTER, seconds)], text).into_response();
        }
        Ok(Outcome::Mismatch) => {
            let text = "this key was first used for another request\n";
            return (StatusCode::UNPROCESSABLE_ENTITY, text).into_response();
        }
        Ok(Outcome::Gone | Outcome::Unresolved) => {
            return (StatusCode::CONFLICT, "it was done; its answer is no longer kept\n").into_response();
        }
        // Nothing of it stays, and the key is free: the same request may succeed tomorrow.
        Err(OperationError::Work(PayError::Declined)) => {
            return (StatusCode::PAYMENT_REQUIRED, "declined\n").into_response();
        }
        Err(error) => {
            eprintln!("{error}: {:?}", std::error::Error::source(&error));
            let text = "try again with the same key\n";
            return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response();
        }
    };
    match answer {
        Ok(bytes) => (StatusCode::CREATED, [(CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The application, on the tables in the schema `public`, and the engine that keeps Onceward's own tidy.
pub(crate) async fn application(url: &str) -> Result<(Router, Engine), Box<dyn std::error::Error>> {
    // Makes Onceward's tables, and has the key of the hashes.
    let engine = Engine::new(onceward::open(url).await?);
    let pool = PgPool::connect(url).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let shop = Shop { pool, operations: Operations::default(), hasher: engine.hasher().await? };
    Ok((Router::new().route("/payments", post(payments)).with_state(Arc::new(shop)), engine))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("name the database: payments postgres://user@host/database")?;
    let (application, engine) = application(&url).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/payments", listener.local_addr()?);
    for cents in [1200, 1200, 1300] {
        let body = format!("{{\"account\":\"anna\",\"cents\":{cents},\"currency\":\"EUR\"}}");
        println!("curl -i {url} -H 'Idempotency-Key: order-1' -d '{body}'");
    }
    // Answers that are over go.
    let upkeep = async {
        loop {
            if let Err(error) = engine.maintain().await {
                eprintln!("upkeep: {error}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        served = axum::serve(listener, application) => Ok(served?),
        () = upkeep => Ok(()),
    }
}
