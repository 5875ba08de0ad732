//! A place where a call waits until a test lets it go on.

use std::sync::Arc;

use tokio::sync::watch;

use crate::patience::within;

/// A gate for one call. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    place: Arc<watch::Sender<Place>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    reached: bool,
    open: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self { place: Arc::new(watch::Sender::new(Place::default())) }
    }

    /// Waits until a call stands at the gate.
    ///
    /// # Panics
    /// When none does within 30 s of real time.
    pub async fn reached(&self) {
        let mut place = self.place.subscribe();
        within(place.wait_for(|it| it.reached)).await.expect("the gate that sends is borrowed");
    }

    /// Lets the call go on.
    pub fn open(&self) {
        self.place.send_modify(|it| it.open = true);
    }

    pub(crate) async fn stop(&self) {
        self.place.send_modify(|it| it.reached = true);
        let mut place = self.place.subscribe();
        place.wait_for(|it| it.open).await.expect("the gate that sends is borrowed");
    }
}
