//! What `onceward demo` shows: a payment API that knows nothing of repeats.

mod bank;
pub(crate) mod upstream;
