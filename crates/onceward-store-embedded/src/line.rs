//! The line in which calls wait for the committer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::group::Order;

#[derive(Debug, Default)]
pub(crate) struct Line {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    orders: VecDeque<Order>,
    closed: bool,
    woken: bool,
    /// Whether the committer waits, so that nobody wakes it in vain.
    waits: bool,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There are orders.
    Orders,
    /// Something else happened: look whether the store is in order.
    Woken,
    /// None came in time.
    Nothing,
    /// None will come any more.
    Closed,
}

impl Line {
    /// Puts an order at the end; gives it back once the line is closed.
    pub(crate) fn push(&self, order: Order) -> Result<(), Box<Order>> {
        let mut state = self.state();
        if state.closed {
            return Err(Box::new(order));
        }
        state.orders.push_back(order);
        let wake = std::mem::take(&mut state.waits);
        drop(state);
        if wake {
            self.moved.notify_one();
        }
        Ok(())
    }

    /// Waits for orders, at most for `patience` if there is one.
    pub(crate) fn wait(&self, patience: Option<Duration>) -> Waited {
        let mut state = self.state();
        loop {
            if !state.orders.is_empty() {
                return Waited::Orders;
            }
            if state.closed {
                return Waited::Closed;
            }
            if std::mem::take(&mut state.woken) {
                return Waited::Woken;
            }
            state.waits = true;
            let timed_out;
            (state, timed_out) = match patience {
                None => (self.moved.wait(state).unwrap_or_else(PoisonError::into_inner), false),
                Some(patience) => {
                    let waited = self.moved.wait_timeout(state, patience);
                    let (state, it) = waited.unwrap_or_else(PoisonError::into_inner);
                    (state, it.timed_out())
                }
            };
            state.waits = false;
            if timed_out && state.orders.is_empty() {
                return Waited::Nothing;
            }
        }
    }

    /// Moves all that wait into `taken`, which must be empty: the two change places.
    pub(crate) fn take(&self, taken: &mut VecDeque<Order>) {
        std::mem::swap(&mut self.state().orders, taken);
    }

    /// Lets the committer look up from its wait.
    pub(crate) fn wake(&self) {
        self.state().woken = true;
        self.moved.notify_one();
    }

    /// Takes no more orders. Those that are there are still carried out.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.moved.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
