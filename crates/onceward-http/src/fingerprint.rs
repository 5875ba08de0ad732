//! What was asked: method, path and query byte for byte, media type, body. No other header counts.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use onceward_core::{Fingerprint, Hasher};

/// The fingerprint of a request whose whole body is `body`.
pub(crate) fn fingerprint_of(hasher: &Hasher, parts: &Parts, body: &Bytes) -> Fingerprint {
    let content_type = parts.headers.get(CONTENT_TYPE).map_or(&[][..], |it| it.as_bytes());
    let media = MediaType::read(content_type);
    let path = parts.uri.path().as_bytes();
    let query = parts.uri.query().map(str::as_bytes);
    let head = [
        b"http".as_slice(),
        parts.method.as_str().as_bytes(),
        path,
        if query.is_some() { b"?" } else { b"" },
        query.unwrap_or_default(),
        media.name.as_bytes(),
    ];
    match &media.boundary {
        Some(boundary) => hasher.fingerprint(head.into_iter().chain(multipart(body, boundary))),
        None => hasher.fingerprint(head.into_iter().chain([&body[..]])),
    }
}

/// A media type as it counts: lower case, parameters sorted, a multipart boundary taken out.
#[derive(Debug, PartialEq, Eq)]
struct MediaType<'a> {
    name: Cow<'a, str>,
    boundary: Option<Vec<u8>>,
}

impl<'a> MediaType<'a> {
    fn read(value: &'a [u8]) -> Self {
        let text = String::from_utf8_lossy(value);
        // Most are written as they count already.
        if value.iter().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'/' | b'+' | b'-' | b'.')) {
            return Self { name: text, boundary: None };
        }
        let mut pieces = split_parameters(&text).into_iter();
        let mut name = pieces.next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_multipart = name.starts_with("multipart/");
        let mut boundary = None;
        let mut parameters = Vec::new();
        for piece in pieces {
            let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
            let (key, value) = (key.trim().to_ascii_lowercase(), unquoted(value.trim()));
            // A longer boundary is not one (RFC 2046, section 5.1.1), and searching for it could take long.
            let fits = (1..=70).contains(&value.len());
            if is_multipart && fits && key == "boundary" && boundary.is_none() {
                boundary = Some(value.into_bytes());
            } else if !key.is_empty() {
                parameters.push(format!("{key}={}", value.to_ascii_lowercase()));
            }
        }
        parameters.sort();
        for it in parameters {
            name.push(';');
            name.push_str(&it);
        }
        Self { name: name.into(), boundary }
    }
}

/// Splits at semicolons that stand outside quotes.
fn split_parameters(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, it) in text.char_indices() {
        match it {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                pieces.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[start..]);
    pieces
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(it) = rest.next() {
        out.extend(if it == '\\' { rest.next() } else { Some(it) });
    }
    out
}

/// The stretches between the delimiters of a multipart body (RFC 2046, section 5.1.1), each hashed with its
/// length: two bodies that differ in the boundary alone give the same stretches.
fn multipart<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let delimiter = [b"--".as_slice(), boundary].concat();
    let mut stretches = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(found) = find(&body[at..], &delimiter).map(|it| it + at) {
        let end = found + delimiter.len();
        let line_start = found == 0 || body[..found].ends_with(b"\n");
        let line_end = ends_line(&body[end..]);
        if line_start && line_end {
            stretches.push(&body[start..found]);
            start = end;
        }
        at = end;
    }
    stretches.push(&body[start..]);
    stretches
}

/// Whether nothing but the closing dashes and padding stands between a delimiter and the end of its line:
/// `--boundary-x` is content.
fn ends_line(rest: &[u8]) -> bool {
    let rest = rest.strip_prefix(b"--").unwrap_or(rest);
    let padding = rest.iter().take_while(|it| matches!(it, b' ' | b'\t')).count();
    matches!(rest.get(padding), None | Some(b'\r' | b'\n'))
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|it| *it == first).map(|it| it + from) {
        if hay[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn of(method: &str, target: &str, content_type: &str, body: &str) -> Fingerprint {
        let mut request = Request::builder().method(method).uri(target);
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let (parts, ()) = request.header("x-other", body.len()).body(()).unwrap().into_parts();
        fingerprint_of(&Hasher::new(b"secret"), &parts, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn every_part_of_the_request_counts() {
        let base = of("POST", "/a?b=1", "application/json", "{}");
        assert_eq!(base, of("POST", "/a?b=1", "application/json", "{}"));
        for other in [
            of("PATCH", "/a?b=1", "application/json", "{}"),
            of("POST", "/b?b=1", "application/json", "{}"),
            of("POST", "/%61?b=1", "application/json", "{}"),
            of("POST", "/a?b=2", "application/json", "{}"),
            of("POST", "/a", "application/json", "{}"),
            of("POST", "/a?b=1", "text/plain", "{}"),
            of("POST", "/a?b=1", "", "{}"),
            of("POST", "/a?b=1", "application/json", "{ }"),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(of("POST", "/a?", "", ""), of("POST", "/a", "", ""));
    }

    #[test]
    fn the_spelling_of_a_media_type_does_not_count() {
        let base = of("POST", "/", "text/plain; charset=utf-8; a=1", "x");
        assert_eq!(base, of("POST", "/", "Text/Plain;A=1;Charset=\"UTF-8\"", "x"));
        assert_ne!(base, of("POST", "/", "text/plain; charset=latin1; a=1", "x"));
    }

    #[test]
    fn the_boundary_of_a_multipart_body_does_not_count_and_everything_else_does() {
        let form = |boundary: &str, value: &str| {
            let body = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{value}\r\n--{boundary}--\r\n"
            );
            of("POST", "/", &format!("multipart/form-data; boundary={boundary}"), &body)
        };
        assert_eq!(form("XX", "1"), form("\"yy yy\"".trim_matches('"').replace(' ', "-").as_str(), "1"));
        assert_ne!(form("XX", "1"), form("XX", "2"));
        assert_ne!(form("XX", "1"), form("XX", "1\r\n--XX\r\n\r\n2"));
        assert_ne!(form("XX", "see --XXtra"), form("YY", "see --XXtr"));
        assert_eq!(form("XX", "a --XX b"), form("YY", "a --XX b"));
    }

    #[test]
    fn a_broken_media_type_is_harmless() {
        for odd in [";;;", "multipart/form-data", "multipart/form-data; boundary=", "a/b; c=\"d", "\u{80}"] {
            let _ = of("POST", "/", odd, "--x\r\n");
        }
    }
}
