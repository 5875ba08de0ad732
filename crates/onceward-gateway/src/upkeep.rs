//! What is done all the time beside serving.

use std::time::Duration;

use onceward_admin::Metrics;
use onceward_core::store::Due;
use onceward_core::{Engine, Result};
use tokio_util::sync::CancellationToken;

/// How many records past their lease are counted at most.
const LEASES_COUNTED: usize = 1000;
/// How often the store is asked for them at most.
const LOOKS_MAX: usize = 4;

/// Sweeps, releases stray claims and says when the store goes and comes, once a second and faster while there
/// is more to do.
pub(crate) async fn upkeep(engine: Engine, metrics: Metrics, stop: CancellationToken) {
    let mut up = true;
    let mut passed = 0;
    loop {
        let done = engine.maintain().await;
        match &done {
            Err(error) if up => {
                tracing::error!(error = error as &dyn std::error::Error, "the store is down");
            }
            Ok(_) if !up => tracing::info!("the store is up again"),
            Ok(_) | Err(_) => {}
        }
        up = done.is_ok();
        let more = done.is_ok_and(|it| it.more);
        if let Ok(over) = leases_passed(&engine).await {
            metrics.leases_passed(over);
            if over > passed {
                tracing::warn!(
                    operations = over,
                    "operations are unresolved: whoever ran them was gone before their answer was stored"
                );
            }
            passed = over;
        }
        let pause = Duration::from_millis(if more { 10 } else { 1000 });
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How many records are past their lease, of [`LEASES_COUNTED`] at most. A store that stops looking early, because of records that
/// cannot be read, is asked a few times.
async fn leases_passed(engine: &Engine) -> Result<usize> {
    let (mut passed, mut next) = (0, Some(Due::Lease.start()));
    for _ in 0..LOOKS_MAX {
        let Some(from) = next.filter(|_| passed < LEASES_COUNTED) else { break };
        let page = engine.store().due(from, LEASES_COUNTED - passed).await?;
        passed += page.records.len();
        next = page.next;
    }
    Ok(passed)
}
