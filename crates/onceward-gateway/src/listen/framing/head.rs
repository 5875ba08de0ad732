//! The rules for one head, seen whole.

use super::Bounds;
use crate::listen::violation::Violation;

/// No method that is registered has half of this.
const METHOD_BYTES_MAX: usize = 64;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Sized(u64),
    Chunked,
}

/// What a head says about what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: Length,
    pub(super) upgrade: bool,
}

/// Judges what little there is of a request line, so that noise is refused at once and not at a time-out.
pub(super) fn check_start(bytes: &[u8], bounds: Bounds) -> Result<(), Violation> {
    let method = bytes.iter().take(METHOD_BYTES_MAX).take_while(|it| is_token(**it)).count();
    match bytes.get(method) {
        None => return Ok(()),
        Some(b' ') if method > 0 => {}
        Some(_) => return Err(Violation::RequestLine),
    }
    let target = &bytes[method + 1..];
    let most = target.len().min(bounds.target_bytes + 1);
    if most > bounds.target_bytes && target[..most].iter().all(|it| is_target(*it)) {
        return Err(Violation::TargetTooLong);
    }
    Ok(())
}

/// Judges a head from its first byte to its empty line. Each LF is known to come behind a CR.
pub(super) fn check(head: &[u8], bounds: Bounds) -> Result<Head, Violation> {
    let mut lines = lines(head);
    let request_line = RequestLine::read(lines.next().ok_or(Violation::RequestLine)?)?;
    let mut framing = Fields::default();
    let mut count = 0;
    for line in lines {
        count += 1;
        if count > bounds.headers {
            return Err(Violation::HeadTooLarge);
        }
        let (name, value) = field(line)?;
        framing.note(name, value)?;
    }
    framing.check_host(&request_line)?;
    let length = match (framing.length, framing.chunked) {
        (Some(_), true) => return Err(Violation::TwoLengths),
        (None, true) if request_line.is_1_1 => Length::Chunked,
        (None, true) => return Err(Violation::TransferEncoding),
        (Some(length), false) => Length::Sized(length),
        (None, false) => Length::Sized(0),
    };
    Ok(Head { length, upgrade: framing.upgrade || request_line.is_connect })
}

/// Judges the lines behind the last chunk, down to the empty one.
pub(super) fn check_trailers(trailers: &[u8], bounds: Bounds) -> Result<(), Violation> {
    const FRAMING: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"trailer"];
    let mut count = 0;
    for line in lines(trailers) {
        count += 1;
        let (name, _) = field(line).map_err(|_| Violation::Trailer)?;
        if count > bounds.headers || FRAMING.iter().any(|it| name.eq_ignore_ascii_case(it)) {
            return Err(Violation::Trailer);
        }
    }
    Ok(())
}

struct RequestLine<'a> {
    /// The authority of a target in absolute form.
    authority: Option<&'a [u8]>,
    is_1_1: bool,
    is_connect: bool,
}

impl<'a> RequestLine<'a> {
    fn read(line: &'a [u8]) -> Result<Self, Violation> {
        let mut parts = line.split(|it| *it == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Violation::RequestLine);
        };
        let is_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(Violation::RequestLine),
        };
        if method.is_empty() || !method.iter().all(|it| is_token(*it)) {
            return Err(Violation::RequestLine);
        }
        if target.is_empty() || !target.iter().all(|it| is_target(*it)) {
            return Err(Violation::RequestLine);
        }
        if target.contains(&b'#') {
            return Err(Violation::Target);
        }
        let is_connect = method == b"CONNECT";
        let authority = match target {
            [b'/', ..] | b"*" => None,
            _ if is_connect => Some(target),
            _ => Some(authority(target).ok_or(Violation::Target)?),
        };
        Ok(Self { authority, is_1_1, is_connect })
    }
}

/// The fields that say where a message ends and whom it is for.
#[derive(Default)]
struct Fields<'a> {
    length: Option<u64>,
    chunked: bool,
    host: Option<&'a [u8]>,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Violation> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Violation::ContentLength);
            }
            self.length = Some(decimal(value).ok_or(Violation::ContentLength)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            if self.host.is_some() || !is_host(value) {
                return Err(Violation::Host);
            }
            self.host = Some(value);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        Ok(())
    }

    fn check_host(&self, request_line: &RequestLine<'_>) -> Result<(), Violation> {
        match (self.host, request_line.authority) {
            (None, _) if request_line.is_1_1 => Err(Violation::Host),
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => Err(Violation::Target),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}

/// The lines before the empty one, without their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
    body.split_inclusive(|it| *it == b'\n').map(|it| it.strip_suffix(b"\r\n").unwrap_or(it))
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if line.first().is_some_and(|it| matches!(it, b' ' | b'\t')) {
        return Err(Violation::Folded);
    }
    let colon = line.iter().position(|it| !is_token(*it)).ok_or(Violation::HeaderName)?;
    if colon == 0 || line[colon] != b':' {
        return Err(Violation::HeaderName);
    }
    let value = &line[colon + 1..];
    match value.iter().find(|it| !is_value(**it)) {
        Some(b'\r') => Err(Violation::LineEnd),
        Some(_) => Err(Violation::HeaderValue),
        None => Ok((&line[..colon], trim(value))),
    }
}

/// The authority of `http://authority/…`, where the target has that form.
fn authority(target: &[u8]) -> Option<&[u8]> {
    let scheme = target.iter().position(|it| *it == b':')?;
    if !target[..scheme].eq_ignore_ascii_case(b"http") && !target[..scheme].eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = target[scheme..].strip_prefix(b"://")?;
    let end = rest.iter().position(|it| matches!(it, b'/' | b'?')).unwrap_or(rest.len());
    (end > 0 && is_host(&rest[..end])).then_some(&rest[..end])
}

/// Digits and nothing else, in what a signed counter of 64 bits can hold.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    text.parse::<i64>().ok().and_then(|it| u64::try_from(it).ok())
}

/// Whether this can be a host with or without a port: no list, no user, no path.
fn is_host(value: &[u8]) -> bool {
    let is_odd = |it: &u8| !it.is_ascii_graphic() || b",/\\@?#\"<>^`{|}".contains(it);
    !value.is_empty() && !value.iter().any(is_odd)
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |it: &u8| matches!(it, b' ' | b'\t');
    let start = value.iter().position(|it| !is_space(it)).unwrap_or(value.len());
    let end = value.iter().rposition(|it| !is_space(it)).map_or(start, |it| it + 1);
    &value[start..end]
}

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

fn is_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// RFC 9110 section 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};
