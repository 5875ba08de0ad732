//! Who asked: `Forwarded` (RFC 7239) and its older cousins `X-Forwarded-For`, `-Proto` and `-Host`.
//!
//! The list fields are appended to, so that the last element is always what we saw ourselves. The two single
//! fields are replaced by what we saw, unless a proxy in front is trusted to have set them.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use http::header::{FORWARDED, GetAll, HeaderMap, HeaderName};

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
        if headers.get_all(FORWARDED).iter().any(|it| !quotes_closed(it.as_bytes())) {
            headers.remove(FORWARDED);
        }
        let forwarded = join(headers.get_all(FORWARDED), b", ", &self.element());
        headers.insert(FORWARDED, forwarded);
        if let Some(client) = self.client {
            let ip = client.ip().to_string();
            let addresses = join(headers.get_all(X_FORWARDED_FOR), b", ", ip.as_bytes());
            headers.insert(X_FORWARDED_FOR, addresses);
        }
        self.single(headers, X_FORWARDED_PROTO, Some(HeaderValue::from_static(self.scheme())));
        self.single(headers, X_FORWARDED_HOST, self.host.clone());
    }

    fn single(&self, headers: &mut HeaderMap, name: HeaderName, seen: Option<HeaderValue>) {
        if self.trust_forwarded && headers.contains_key(&name) {
            return;
        }
        match seen {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }

    /// Our element of `Forwarded`.
    fn element(&self) -> Vec<u8> {
        let client = match self.client.map(ClientAddr::ip) {
            Some(IpAddr::V4(ip)) => ip.to_string(),
            Some(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
            None => "unknown".to_owned(),
        };
        let mut element = format!("for={client}").into_bytes();
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

/// The lines of a field and one more element as one line: many readers look at the first line only.
pub(super) fn join(lines: GetAll<'_, HeaderValue>, between: &[u8], last: &[u8]) -> HeaderValue {
    const FITS: &str = "joined values have no byte that they had not";
    if lines.iter().next().is_none() {
        return HeaderValue::from_bytes(last).expect(FITS);
    }
    let mut parts: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    parts.push(last);
    parts.retain(|it| !it.is_empty());
    HeaderValue::from_bytes(&parts.join(between)).expect(FITS)
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
