//! Whether an answer is the right one.

use crate::client::Answer;

/// Whether it calls itself a replay.
pub(super) fn is_replay(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|it| it == "true")
}

/// Checks the answer to a request with the body `sent`; a repeat must be the replay of `first`, byte for byte.
///
/// # Errors
/// What is wrong with it, for a person.
pub(super) fn check(answer: &Answer, sent: &str, first: Option<&Answer>) -> Result<(), String> {
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        return Err(format!(
            "status {}: {}",
            answer.status.as_u16(),
            text.chars().take(200).collect::<String>()
        ));
    }
    if !text.ends_with(&format!("\"sent\":\"{sent}\"}}")) {
        return Err(format!("the answer is not to what was sent: {text:?}"));
    }
    match first {
        None if is_replay(answer) => Err("a first answer calls itself a replay".into()),
        Some(_) if !is_replay(answer) => Err("a repeat got an answer that is no replay".into()),
        Some(first) if first.body != answer.body => Err(format!("a replay differs from its first: {text:?}")),
        _ => Ok(()),
    }
}
