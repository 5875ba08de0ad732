//! What a handler does with a message: it writes once. The same for both that are compared.

use onceward_bench::Result;
use onceward_queue::Message;
use redis::aio::MultiplexedConnection;
use sqlx::{PgConnection, PgPool};

use crate::consumers::source::EVENT_ID;

const LIST: &str = "effects";

/// Makes the table.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn make_table(pool: &PgPool) -> Result<()> {
    let text = "CREATE TABLE effects (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event bytea, body bytea)";
    sqlx::query(text).execute(pool).await?;
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

/// How many rows there are; there are none afterwards.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn take_rows(pool: &PgPool) -> Result<u64> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM effects").fetch_one(pool).await?;
    sqlx::query("TRUNCATE effects").execute(pool).await?;
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
