//! What became of an operation, as far as its answer tells.

/// Why the outcome of an operation is unknown, in a few words for operators: "the connection broke".
///
/// A service behind the layer may put one into the extensions of a response whose [`Outcome`] is
/// [`Unknown`](Outcome::Unknown). It must hold nothing of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub &'static str);

/// How an answer counts for the record of its operation.
///
/// A service behind the layer may put one into the extensions of its response; an upstream says it with the
/// header `Onceward-Outcome: store | release | unknown`. Either overrules the route's status lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The operation is done and this is its answer: keep it and replay it.
    Store,
    /// Nothing happened: the key is free.
    Release,
    /// It may or may not have happened: the record is unresolved at once.
    Unknown,
}
