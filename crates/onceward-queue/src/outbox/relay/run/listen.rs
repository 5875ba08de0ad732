//! Being woken by commits.

use std::future::pending;

use onceward_core::Clock;
use onceward_store_postgres::outbox::CHANNEL;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;

use super::AWAY_MAX;

/// Wakes for each notification, on one connection of the pool. Never completes: whatever is missed is found by looking.
pub(super) async fn listen(pool: Option<PgPool>, clock: &dyn Clock, woken: &Notify) {
    let Some(pool) = pool else { return pending().await };
    loop {
        let heard = async || -> sqlx::Result<()> {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            loop {
                // What was said before it listened.
                woken.notify_one();
                listener.recv().await?;
            }
        };
        if let Err(error) = heard().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "nobody listens to the outbox for now");
        }
        clock.sleep(AWAY_MAX).await;
    }
}
