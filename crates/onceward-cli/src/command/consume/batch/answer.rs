//! What the answer to a batch means for each of its messages. Pure.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Response, StatusCode};
use onceward::http::ONCEWARD_OUTCOME;
use onceward::queue::Failure;
use serde::Deserialize;
use serde_json::Value;

use crate::command::consume::effects::{NamedEffect, is_named_by};
use crate::command::consume::handler::judge;

/// What a handler says of one message: by its place in the batch, or by its key where no other has the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    index: Option<usize>,
    key: Option<String>,
    status: u16,
    /// In seconds.
    retry_after: Option<u64>,
    outcome: Option<String>,
    detail: Option<String>,
    /// What is to go out because of it.
    #[serde(default)]
    effects: Vec<NamedEffect>,
}

/// What became of the messages with these keys, in their order, and what is to go out because of them.
///
/// A successful answer whose body is an array says so of each: what it does not name, or names twice, nobody knows. Any other
/// answer holds for all.
pub(super) fn outcomes<T>(
    response: &Response<T>,
    body: Option<&[u8]>,
    keys: &[&str],
) -> Vec<Result<Vec<NamedEffect>, Failure>> {
    if response.status().is_success() && is_named_by(response.headers().get(CONTENT_TYPE)) {
        let why = "the answer to a batch names effects message by message, in an array";
        return keys.iter().map(|_| Err(Failure::unknown(why))).collect();
    }
    let is_array = |it: &&[u8]| it.trim_ascii_start().first() == Some(&b'[');
    let Some(array) = body.filter(|it| response.status().is_success() && is_array(it)) else {
        return keys.iter().map(|_| judge(response, body).map(|()| Vec::new())).collect();
    };
    // One that cannot be read names none.
    let told: Vec<Value> = serde_json::from_slice(array).unwrap_or_default();
    let told: Vec<Said> = told.into_iter().filter_map(|it| serde_json::from_value(it).ok()).collect();
    let of = |at: usize| told.iter().filter(move |it| place(it, keys) == Some(at));
    let one = |at| match (of(at).next(), of(at).nth(1)) {
        (Some(it), None) => judge_one(it).map(|()| it.effects.clone()),
        (None, _) => Err(Failure::unknown("the handler's answer does not say what became of this message")),
        (Some(_), Some(_)) => Err(Failure::unknown("the handler's answer speaks twice of this message")),
    };
    (0..keys.len()).map(one).collect()
}

/// Which message is meant, if it is one.
fn place(it: &Said, keys: &[&str]) -> Option<usize> {
    let has_key = |at: &usize| it.key.as_deref().is_none_or(|key| keys.get(*at) == Some(&key));
    if let Some(index) = it.index {
        return Some(index).filter(|it| *it < keys.len()).filter(has_key);
    }
    let key = it.key.as_deref()?;
    let mut with_it = (0..keys.len()).filter(|at| keys[*at] == key);
    with_it.next().filter(|_| with_it.next().is_none())
}

/// As an answer to that message alone.
fn judge_one(it: &Said) -> Result<(), Failure> {
    let strange = || Failure::unknown(format!("the handler said {} of this message", it.status));
    if it.outcome.as_deref().is_some_and(|it| !["store", "release", "unknown"].contains(&it)) {
        return Err(Failure::unknown("the handler said an `outcome` of this message that there is not"));
    }
    let status = StatusCode::from_u16(it.status).map_err(|_| strange())?;
    let mut response = Response::builder().status(status);
    if let Some(seconds) = it.retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    if let Some(outcome) = &it.outcome {
        response = response.header(ONCEWARD_OUTCOME, outcome);
    }
    let response = response.body(()).map_err(|_| strange())?;
    judge(&response, Some(it.detail.as_deref().unwrap_or_default().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: Option<&str>, keys: &[&str]) -> String {
        let response = Response::builder().status(status).body(()).unwrap();
        let word = |it: &Result<Vec<NamedEffect>, Failure>| match it {
            Ok(effects) if effects.is_empty() => "done".to_owned(),
            Ok(effects) => format!("done+{}", effects.len()),
            Err(Failure::Retry { after: Some(after), .. }) => format!("retry-{}", after.as_secs()),
            Err(Failure::Retry { after: None, .. }) => "retry".to_owned(),
            Err(Failure::Park { .. }) => "park".to_owned(),
            Err(Failure::Unknown { .. }) => "unknown".to_owned(),
        };
        let outcomes = outcomes(&response, body.map(str::as_bytes), keys);
        outcomes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn effects_are_named_message_by_message() {
        let kind = "application/vnd.onceward.effects+json";
        let response = Response::builder().header(CONTENT_TYPE, kind).body(()).unwrap();
        let told = outcomes(&response, Some(br#"{"effects":[]}"#), &["a", "b"]);
        assert!(told.iter().all(|it| matches!(it, Err(Failure::Unknown { .. }))), "{told:?}");
    }

    #[test]
    fn an_answer_that_is_no_array_holds_for_all() {
        for (status, body, expected) in [
            (204, Some(""), "done done"),
            (200, Some("fine"), "done done"),
            (200, Some("{\"status\":500}"), "done done"),
            (200, None, "unknown unknown"),
            (422, Some("no"), "park park"),
            (429, Some(""), "retry retry"),
            (500, Some(""), "unknown unknown"),
            // What a failing handler adds is not believed.
            (500, Some("[{\"index\":0,\"status\":200}]"), "unknown unknown"),
        ] {
            assert_eq!(told(status, body, &["a", "b"]), expected, "{status} {body:?}");
        }
    }

    #[test]
    fn an_array_says_what_became_of_each_and_of_no_other() {
        for (body, expected) in [
            (r#"[{"key":"a","status":200},{"key":"b","status":204}]"#, "done done"),
            (r#"[{"index":1,"status":422},{"index":0,"status":200}]"#, "done park"),
            (r#"[{"index":0,"key":"a","status":200},{"key":"b","status":500}]"#, "done unknown"),
            (r#" [{"index":0,"status":503,"retry_after":7},{"index":1,"status":429}]"#, "retry-7 retry"),
            (r#"[{"index":0,"status":500,"outcome":"release"},{"index":1,"status":200}]"#, "retry done"),
            (
                r#"[{"index":0,"status":200,"effects":[{"kind":"a","destination":"b"}]},{"index":1,"status":200}]"#,
                "done+1 done",
            ),
            (
                r#"[{"index":0,"status":200,"effects":[{"kind":"a"}]},{"index":1,"status":200}]"#,
                "unknown done",
            ),
            // Missing, unreadable, of another message, or contradictory.
            (r#"[{"key":"a","status":200}]"#, "done unknown"),
            ("[]", "unknown unknown"),
            ("[{\"key\":\"a\",\"status\":200},", "unknown unknown"),
            (r#"["a", {"key":"b"}, {"key":"a","status":200}]"#, "done unknown"),
            (r#"[{"index":2,"status":200},{"key":"c","status":200}]"#, "unknown unknown"),
            (r#"[{"index":0,"key":"b","status":200},{"index":1,"status":200}]"#, "unknown done"),
            (
                r#"[{"key":"a","status":200},{"index":0,"status":500},{"index":1,"status":200}]"#,
                "unknown done",
            ),
            (r#"[{"index":0,"status":7},{"index":1,"status":200}]"#, "unknown done"),
        ] {
            assert_eq!(told(200, Some(body), &["a", "b"]), expected, "{body}");
        }
        // A key that two messages have names neither of them.
        let both = r#"[{"key":"a","status":200},{"index":1,"status":200}]"#;
        assert_eq!(told(200, Some(both), &["a", "a"]), "unknown done");
    }
}
