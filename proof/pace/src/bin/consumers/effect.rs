//! What a handler does with a message: it writes once. The same for both that are compared.

use onceward_bench::Result;
use onceward_queue::Message;
use redis::aio::MultiplexedConnection;
use sqlx::{PgConnection, PgPool};

use crate::consumers::source::EVENT_ID;

const LIST: &str = "effects";
/// What the names of keys begin with, and how long they are kept, in milliseconds.
const SEEN: &[u8] = b"seen:";
const LEASE: u32 = 30_000;
const KEPT: u32 = 86_400_000;

/// Makes the tables.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn make_table(pool: &PgPool) -> Result<()> {
    let text = "CREATE TABLE effects (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event bytea, body bytea);
        CREATE TABLE seen (event bytea PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";
    sqlx::raw_sql(text).execute(pool).await?;
    Ok(())
}

/// One row, in the transaction that `connection` is in.
///
/// # Errors
/// The driver's.
pub(crate) async fn row(connection: &mut PgConnection, message: &Message) -> sqlx::Result<()> {
    let insert = sqlx::query("INSERT INTO effects (event, body) VALUES ($1, $2)");
    insert.bind(id(message)).bind(&message.body[..]).execute(connection).await.map(drop)
}

/// One row, in a transaction of its own.
///
/// # Errors
/// The driver's.
pub(crate) async fn transaction(pool: &PgPool, message: &Message) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    row(&mut transaction, message).await?;
    transaction.commit().await
}

/// The same where the message was not seen before, as teams write it: a second table, and no word about what was done.
///
/// # Errors
/// The driver's.
pub(crate) async fn transaction_by_hand(pool: &PgPool, message: &Message) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    let insert = sqlx::query("INSERT INTO seen (event) VALUES ($1) ON CONFLICT DO NOTHING").bind(id(message));
    if insert.execute(&mut *transaction).await?.rows_affected() == 1 {
        row(&mut transaction, message).await?;
    }
    transaction.commit().await
}

/// How many rows there are; there are none afterwards.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn take_rows(pool: &PgPool) -> Result<u64> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM effects").fetch_one(pool).await?;
    sqlx::query("TRUNCATE effects, seen").execute(pool).await?;
    Ok(count.unsigned_abs())
}

/// One element of a list.
///
/// # Errors
/// The driver's.
pub(crate) async fn element(
    mut connection: MultiplexedConnection,
    message: &Message,
) -> redis::RedisResult<()> {
    let mut push = redis::cmd("RPUSH");
    push.arg(LIST).arg(id(message));
    push.query_async::<i64>(&mut connection).await.map(drop)
}

/// The same where nobody has it or had it, as teams write it: a key that ends by itself, and no word about whose it is.
///
/// # Errors
/// The driver's.
pub(crate) async fn element_by_hand(
    mut connection: MultiplexedConnection,
    message: &Message,
) -> redis::RedisResult<()> {
    let key = [SEEN, id(message)].concat();
    let set = |to: &str, only: &str, millis: u32| {
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(to).arg("PX").arg(millis).arg(only);
        set
    };
    if set("running", "NX", LEASE).query_async::<Option<String>>(&mut connection).await?.is_some() {
        element(connection.clone(), message).await?;
        set("done", "XX", KEPT).query_async::<Option<String>>(&mut connection).await?;
    }
    Ok(())
}

/// How many elements there are; there are none afterwards.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn take_elements(mut connection: MultiplexedConnection) -> Result<u64> {
    let both = redis::pipe().cmd("LLEN").arg(LIST).cmd("DEL").arg(LIST).ignore().to_owned();
    let (count,): (u64,) = both.query_async(&mut connection).await?;
    Ok(count)
}

fn id(message: &Message) -> &[u8] {
    message.header(EVENT_ID).ok().flatten().map_or(&[], |it| &it[..])
}
