//! What `onceward demo` shows: a payment API that knows nothing of repeats, the gateway in front of it, and
//! a story that makes both of them suffer.

mod bank;
pub(crate) mod parts;
pub(crate) mod story;
pub(crate) mod upstream;
