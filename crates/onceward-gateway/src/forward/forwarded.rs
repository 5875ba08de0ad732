//! Who asked: `Forwarded` (RFC 7239) and its older cousins `X-Forwarded-For`, `-Proto` and `-Host`.
//!
//! The list fields are appended to, so that the last element is always what we saw ourselves. The two single
//! fields are replaced by what we saw, unless a proxy in front is trusted to have set them.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use http::header::{Entry, FORWARDED, HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Request extension: the address of the peer that sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(pub SocketAddr);

impl ClientAddr {
    /// An IPv4 client on a socket that serves both is written as the IPv4 address it has.
    fn ip(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}

/// What this gateway knows of the client by itself.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) client: Option<ClientAddr>,
    /// Whether it came over TLS.
    pub(super) secure: bool,
    pub(super) host: Option<HeaderValue>,
    pub(super) trust_forwarded: bool,
}

impl Seen {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        // A value with an open quote would swallow the element that comes after it.
        append(headers, FORWARDED, value(&self.element()), quotes_closed);
        if let Some(client) = self.client {
            let mut ip = Vec::with_capacity(IP_BYTES_MAX);
            write_ip(client.ip(), &mut ip);
            append(headers, X_FORWARDED_FOR, value(&ip), |_| true);
        }
        self.single(headers, X_FORWARDED_PROTO, Some(HeaderValue::from_static(self.scheme())));
        self.single(headers, X_FORWARDED_HOST, self.host.clone());
    }

    fn single(&self, headers: &mut HeaderMap, name: HeaderName, seen: Option<HeaderValue>) {
        match (headers.entry(name), seen) {
            (Entry::Occupied(_), _) if self.trust_forwarded => {}
            (Entry::Occupied(mut there), Some(seen)) => drop(there.insert(seen)),
            (Entry::Occupied(there), None) => drop(there.remove()),
            (Entry::Vacant(empty), Some(seen)) => drop(empty.insert(seen)),
            (Entry::Vacant(_), None) => {}
        }
    }

    /// Our element of `Forwarded`.
    fn element(&self) -> Vec<u8> {
        let mut element = Vec::with_capacity(128);
        element.extend_from_slice(b"for=");
        match self.client.map(ClientAddr::ip) {
            Some(ip @ IpAddr::V4(_)) => write_ip(ip, &mut element),
            Some(ip @ IpAddr::V6(_)) => {
                element.extend_from_slice(b"\"[");
                write_ip(ip, &mut element);
                element.extend_from_slice(b"]\"");
            }
            None => element.extend_from_slice(b"unknown"),
        }
        if let Some(host) = &self.host {
            element.extend_from_slice(b";host=");
            quote_into(&mut element, host.as_bytes());
        }
        element.extend_from_slice(b";proto=");
        element.extend_from_slice(self.scheme().as_bytes());
        element
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// What the longest address takes.
const IP_BYTES_MAX: usize = 39;

/// An address in its usual spelling. `Display` spells one of IPv4 at ten times the cost, and each request needs it
/// twice.
fn write_ip(ip: IpAddr, to: &mut Vec<u8>) {
    let IpAddr::V4(ip) = ip else {
        return to.extend_from_slice(ip.to_string().as_bytes());
    };
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            to.push(b'.');
        }
        if octet >= 100 {
            to.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            to.push(b'0' + octet / 10 % 10);
        }
        to.push(b'0' + octet % 10);
    }
}

/// Puts one more element behind the lines of a field, which become one line: many readers look at the first line only.
/// If one of them does not fit, they all go.
pub(super) fn append(
    headers: &mut HeaderMap,
    name: HeaderName,
    last: HeaderValue,
    fits: impl Fn(&[u8]) -> bool,
) {
    match headers.entry(name) {
        Entry::Vacant(empty) => drop(empty.insert(last)),
        Entry::Occupied(mut lines) => {
            let all_fit = lines.iter().all(|it| fits(it.as_bytes()));
            let all = if all_fit { join(lines.iter().chain([&last]), b", ") } else { last };
            lines.insert(all);
        }
    }
}

/// The lines of a field as one.
pub(super) fn join<'a>(lines: impl Iterator<Item = &'a HeaderValue>, between: &[u8]) -> HeaderValue {
    let mut parts: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
    parts.retain(|it| !it.is_empty());
    value(&parts.join(between))
}

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("what was a part of a value has no byte that none may have")
}

/// A plain word as it is, anything else as a quoted string.
fn quote_into(element: &mut Vec<u8>, value: &[u8]) {
    let plain = |it: &u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(it);
    if !value.is_empty() && value.iter().all(plain) {
        element.extend_from_slice(value);
        return;
    }
    element.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            element.push(b'\\');
        }
        element.push(*byte);
    }
    element.push(b'"');
}

fn quotes_closed(value: &[u8]) -> bool {
    let (mut open, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if open => escaped = true,
            b'"' => open = !open,
            _ => {}
        }
    }
    !open
}
