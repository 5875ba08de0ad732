//! What is done all the time beside serving.

use std::time::Duration;

use onceward_admin::Metrics;
use onceward_core::Engine;
use onceward_core::store::Due;
use tokio_util::sync::CancellationToken;

/// How many records past their lease are counted at most.
const LEASES_COUNTED: usize = 1000;

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
        if let Ok(over) = engine.store().due(Due::Lease, LEASES_COUNTED).await {
            metrics.leases_passed(over.len());
            if over.len() > passed {
                tracing::warn!(
                    operations = over.len(),
                    "operations are unresolved: whoever ran them was gone before their answer was stored"
                );
            }
            passed = over.len();
        }
        let pause = Duration::from_millis(if more { 10 } else { 1000 });
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
