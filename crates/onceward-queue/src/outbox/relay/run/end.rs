//! How a relay ends.

use std::sync::Arc;
use std::time::Duration;

use super::Running;
use super::ask::in_time;

/// How long the last notes may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Running {
    /// Drops what is still on its way, notes what is known, and gives the rest back.
    pub(super) async fn last_words(mut self) {
        self.lines.shutdown().await;
        if let Some(noting) = self.noting.take() {
            tokio::select! {
                (notes, told) = noting => match told {
                    Ok(noted) => self.noted(&notes, &noted, Duration::ZERO),
                    Err(_) => self.notes.add(notes),
                },
                () = self.clock.sleep(LAST_WORDS) => {}
            }
        }
        while let Ok(report) = self.reports.try_recv() {
            self.note(report);
        }
        let told: std::collections::HashSet<_> = self.notes.all().collect();
        let rest = self.hand.all().into_iter().filter(|it| !told.contains(it));
        self.notes.untouched.extend(rest);
        if !self.notes.is_empty() {
            let clock = Arc::clone(&self.clock);
            // What cannot be noted now goes to others once the lease is over.
            let _ = in_time(&*clock, LAST_WORDS, self.notes.write(&self.table, &self.pool, self.owner)).await;
        }
    }
}
