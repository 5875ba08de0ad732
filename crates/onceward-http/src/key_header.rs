//! Reads the `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-07, section 2.1; RFC 8941,
//! section 3.3.3).
//!
//! 1. No line: no key. More than one line: refused.
//! 2. A value that begins with `"` is one complete structured-field string; its escapes are undone and
//!    parameters behind it are refused.
//! 3. Any other value is taken as it stands, so that `abc` and `"abc"` are the same key.
//! 4. What remains is 1 to 255 visible ASCII characters.

use http::{HeaderMap, HeaderName};
use onceward_core::{Key, KeyError};

use crate::problem::Problem;

/// `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key of a request, if it has one.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<Key>, Problem> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Problem::KeyInvalid(
            "The request has more than one Idempotency-Key line; send exactly one",
        ));
    }
    let text = std::str::from_utf8(line.as_bytes())
        .map_err(|_| refusal(KeyError::NotVisibleAscii))?
        .trim_matches([' ', '\t']);
    let key = if text.starts_with('"') { &unquote(text)? } else { text };
    Key::parse(key).map(Some).map_err(refusal)
}

fn unquote(text: &str) -> Result<String, Problem> {
    const UNBALANCED: Problem =
        Problem::KeyInvalid("The Idempotency-Key begins with a quote and is not one complete quoted string");
    let mut key = String::with_capacity(text.len());
    let mut rest = text[1..].chars();
    loop {
        match rest.next() {
            Some('"') => break,
            Some('\\') => match rest.next() {
                Some(it @ ('"' | '\\')) => key.push(it),
                Some(_) | None => return Err(UNBALANCED),
            },
            Some(it) => key.push(it),
            None => return Err(UNBALANCED),
        }
    }
    if rest.next().is_some() {
        return Err(Problem::KeyInvalid(
            "The Idempotency-Key has something behind its closing quote; send the key alone",
        ));
    }
    Ok(key)
}

fn refusal(error: KeyError) -> Problem {
    Problem::KeyInvalid(match error {
        KeyError::Empty => "The Idempotency-Key is empty; send 1 to 255 visible ASCII characters",
        KeyError::TooLong => "The Idempotency-Key is longer than 255 characters; send a shorter one",
        KeyError::NotVisibleAscii => {
            "The Idempotency-Key has a blank, a control or a non-ASCII character; send visible ASCII only"
        }
    })
}

/// The same for a key that stands elsewhere.
pub(crate) fn refusal_elsewhere(error: KeyError) -> Problem {
    Problem::KeyInvalid(match error {
        KeyError::Empty => "The id that is the key is empty; send 1 to 255 visible ASCII characters",
        KeyError::TooLong => "The id that is the key is longer than 255 characters; send a shorter one",
        KeyError::NotVisibleAscii => {
            "The id that is the key has a blank, a control or a non-ASCII character; send visible ASCII only"
        }
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(lines: &[&[u8]], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(line).unwrap());
        }
        let key = key_of(&headers);
        match (expected, &key) {
            (Some("400"), Err(Problem::KeyInvalid(_))) => {}
            (Some(text), Ok(Some(key))) => assert_eq!(key.as_str(), text),
            (None, Ok(None)) => {}
            (_, _) => panic!("{lines:?} gave {key:?}, not {expected:?}"),
        }
    }

    #[test]
    fn quoted_and_bare_spellings_are_one_key() {
        check(&[], None);
        check(&[b"abc"], Some("abc"));
        check(&[b"\"abc\""], Some("abc"));
        check(&[b"  \"abc\"  "], Some("abc"));
        check(&[br#""a\"b\\c""#], Some(r#"a"b\c"#));
        check(&[b"8e03978e-40d5-43dd-bc93-6894a57f9324"], Some("8e03978e-40d5-43dd-bc93-6894a57f9324"));
        check(&[b"a\"b"], Some("a\"b"));
    }

    #[test]
    fn what_is_not_exactly_one_key_is_refused() {
        let long = [b'k'; 256];
        let quoted_long = format!("\"{}\"", "k".repeat(256));
        for bad in [
            b"".as_slice(),
            b" ",
            b"\"\"",
            b"\"",
            b"\"abc",
            b"\"abc\";a=1",
            b"\"abc\" \"d\"",
            br#""a\b""#,
            br#""abc\"#,
            b"a b",
            b"\"a b\"",
            b"a\tb",
            b"\xc3\xa9",
            b"\xff",
            &long,
            quoted_long.as_bytes(),
        ] {
            check(&[bad], Some("400"));
        }
        check(&[b"a", b"a"], Some("400"));
        check(&[b"k".repeat(255).as_slice()], Some(&"k".repeat(255)));
    }
}
