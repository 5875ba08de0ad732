//! Reading the body of a request, within bounds.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use onceward_core::Clock;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use crate::problem::Problem;

/// The longest resolve request: an answer of several MiB in base64.
const BYTES_MAX: usize = 16 << 20;
/// How long a body may take to arrive. Whoever sends one has the token; this is for networks that stall.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A whole number in JSON, also one that its writer keeps as a float: `201.0`. Beyond 2^53 a float says no
/// number exactly and is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole(pub(crate) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        let exact = |it: &f64| it.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(it);
        // Such a float is written without a point and an exponent.
        let float = || number.as_f64().filter(exact).and_then(|it| format!("{:.0}", it.abs()).parse().ok());
        number.as_u64().or_else(float).map(Self).ok_or_else(|| D::Error::custom("it must be a whole number"))
    }
}

/// The whole body, which must be JSON and no longer and no slower than the bounds.
///
/// # Cancel safety
/// Dropping the future loses what was read.
pub(crate) async fn json(headers: &HeaderMap, body: Body, clock: &dyn Clock) -> Result<Bytes, Problem> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return Err(Problem::MediaType) };
    if !is_json(kind) {
        return Err(Problem::MediaType);
    }
    whole(body, BYTES_MAX, clock).await
}

/// Makes sure that there is no body, where a page takes none.
pub(crate) async fn none(body: Body, clock: &dyn Clock) -> Result<(), Problem> {
    match whole(body, 0, clock).await {
        Err(Problem::TooLarge) => Err(Problem::Invalid("this page takes no body".into())),
        other => other.map(|_| ()),
    }
}

async fn whole(body: Body, bytes_max: usize, clock: &dyn Clock) -> Result<Bytes, Problem> {
    let collected = tokio::select! {
        biased;
        collected = Limited::new(body, bytes_max).collect() => collected,
        () = clock.sleep(TIME_MAX) => return Err(Problem::TooSlow),
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::TooLarge),
        Err(_) => Err(Problem::Invalid("the body did not arrive whole".into())),
    }
}

/// `application/json`, in any case, with or without parameters: a page of another site cannot send that
/// without asking first.
fn is_json(kind: &HeaderValue) -> bool {
    let essence = kind.as_bytes().split(|it| *it == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_be_written_as_a_float_as_long_as_that_is_exact() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(serde_json::from_str::<Whole>(text).ok().map(|it| it.0), expected, "{text}");
        };
        check("0", Some(0));
        check("18446744073709551615", Some(u64::MAX));
        check("201.0", Some(201));
        check("2.01e2", Some(201));
        check("9007199254740991.0", Some(9_007_199_254_740_991));
        check("-0.0", Some(0));
        for wrong in ["9007199254740993.0", "1e300", "-1", "-1.0", "1.5", "\"1\"", "true", "null"] {
            check(wrong, None);
        }
    }

    #[test]
    fn json_is_known_by_its_media_type() {
        let check = |kind: &'static str, expected| {
            assert_eq!(is_json(&HeaderValue::from_static(kind)), expected, "{kind}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("application/json ;charset=utf-8", true);
        check("application/jsonp", false);
        check("application/problem+json", false);
        check("text/plain; application/json", false);
        check("text/plain", false);
        check("", false);
    }
}
