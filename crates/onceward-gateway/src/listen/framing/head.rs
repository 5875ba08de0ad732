//! The rules for one head, seen whole.

use memchr::{memchr, memchr_iter};

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
    let method = bytes.iter().take(METHOD_BYTES_MAX).take_while(|it| is(**it, TOKEN)).count();
    match bytes.get(method) {
        None => return Ok(()),
        Some(b' ') if method > 0 => {}
        Some(_) => return Err(Violation::RequestLine),
    }
    let target = &bytes[method + 1..];
    let most = target.len().min(bounds.target_bytes + 1);
    if most > bounds.target_bytes && all(&target[..most], TARGET) {
        return Err(Violation::TargetTooLong);
    }
    Ok(())
}

/// Judges a head from its first byte to its empty line.
pub(super) fn check(head: &[u8], bounds: Bounds) -> Result<Head, Violation> {
    let mut lines = lines(head)?;
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
    for line in lines(trailers).map_err(|_| Violation::Trailer)? {
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
        let (asked, is_1_1) = match (line.strip_suffix(b" HTTP/1.1"), line.strip_suffix(b" HTTP/1.0")) {
            (Some(asked), _) => (asked, true),
            (None, Some(asked)) => (asked, false),
            (None, None) => return Err(Violation::RequestLine),
        };
        // A second space would be one in the target, where none may be.
        let space = memchr(b' ', asked).ok_or(Violation::RequestLine)?;
        let (method, target) = (&asked[..space], &asked[space + 1..]);
        if method.is_empty() || !all(method, TOKEN) || target.is_empty() || !all(target, TARGET) {
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
///
/// Who found the end of them has seen that each LF comes behind a CR. That is not relied on: a line that ends with LF
/// alone keeps it, and no rule for a line lets that pass; what has no end of its own is no line.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Violation> {
    let lines = bytes.strip_suffix(b"\r\n").filter(|it| matches!(it, [] | [.., b'\n']));
    let lines = lines.ok_or(Violation::LineEnd)?;
    let mut start = 0;
    Ok(memchr_iter(b'\n', lines).map(move |lf| {
        let line = &lines[start..=lf];
        start = lf + 1;
        line.strip_suffix(b"\r\n").unwrap_or(line)
    }))
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if line.first().is_some_and(|it| matches!(it, b' ' | b'\t')) {
        return Err(Violation::Folded);
    }
    let colon = line.iter().position(|it| !is(*it, TOKEN)).ok_or(Violation::HeaderName)?;
    if colon == 0 || line[colon] != b':' {
        return Err(Violation::HeaderName);
    }
    let value = &line[colon + 1..];
    if all(value, VALUE) {
        // No other white space is left in it than spaces and tabs.
        return Ok((&line[..colon], value.trim_ascii()));
    }
    match value.iter().find(|it| !is(**it, VALUE)) {
        Some(b'\r') => Err(Violation::LineEnd),
        Some(_) | None => Err(Violation::HeaderValue),
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
    let mut sum = 0_i64;
    for byte in value {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        sum = sum.checked_mul(10)?.checked_add(digit)?;
    }
    u64::try_from(sum).ok().filter(|_| !value.is_empty())
}

/// Whether this can be a host with or without a port: no list, no user, no path.
fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && all(value, HOST)
}

/// What a byte may stand in, a bit for each: every byte of every head is looked up here, some of them twice.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        // RFC 9110 section 5.6.2.
        let is_token = byte.is_ascii_alphanumeric()
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
        let is_odd_in_host = matches!(
            byte,
            b',' | b'/' | b'\\' | b'@' | b'?' | b'#' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}'
        );
        let is_text = byte >= b' ' && byte != 0x7f;
        classes[byte as usize] = bit(is_token, TOKEN)
            | bit(is_text && byte != b' ', TARGET)
            | bit(is_text || byte == b'\t', VALUE)
            | bit(byte.is_ascii_graphic() && !is_odd_in_host, HOST);
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};
const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;
const HOST: u8 = 8;

const fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Looks at all of them whatever it finds: plain heads are the rule, and this way no byte costs a branch.
fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |common, it| common & CLASSES[usize::from(*it)]) != 0
}
