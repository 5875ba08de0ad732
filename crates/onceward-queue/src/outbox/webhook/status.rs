//! The rules: what a status says about a webhook.

use std::time::{Duration, UNIX_EPOCH};

use onceward_core::Timestamp;

use super::{SendFailure, seconds};

/// Judges the status of an answer, with what it said about when to ask again.
///
/// | status | means |
/// |---|---|
/// | 2xx | sent |
/// | 408, 425, 429, 5xx | again, not before what `Retry-After` says |
/// | 409 with `Retry-After` | the same: an earlier try with this id is still under way there |
/// | anything else, redirects too | it would be answered the same the next time: parked |
///
/// # Errors
/// What becomes of an effect that was not taken.
pub fn judge_status(status: u16, retry_after: Option<Duration>) -> Result<(), SendFailure> {
    let reason = format!("it was answered with {status}");
    match status {
        200..=299 => Ok(()),
        409 if retry_after.is_some() => Err(SendFailure::Retry { reason, after: retry_after }),
        408 | 425 | 429 | 500..=599 => Err(SendFailure::Retry { reason, after: retry_after }),
        _ => Err(SendFailure::Park { reason }),
    }
}

/// What `Retry-After` says: seconds, or a date.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_secs(seconds(now))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_sent_again_or_never() {
        let again = |status, after| judge_status(status, after);
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(again(status, None), Ok(()), "{status}");
        }
        for status in [408, 409, 425, 429, 500, 502, 503, 504, 599] {
            let after = Some(Duration::from_secs(7));
            let told = again(status, after);
            assert!(matches!(told, Err(SendFailure::Retry { after: it, .. }) if it == after), "{status}");
        }
        for status in [100, 301, 302, 304, 307, 308, 400, 401, 403, 404, 409, 410, 413, 422, 600] {
            assert!(matches!(again(status, None), Err(SendFailure::Park { .. })), "{status}");
        }
    }

    #[test]
    fn when_to_ask_again_is_a_number_or_a_date() {
        let now = Timestamp::from_millis(1_445_412_470_999);
        for (text, wanted) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(text, now), wanted.map(Duration::from_secs), "{text}");
        }
    }
}
