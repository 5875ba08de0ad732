//! Header fields that belong to one connection (RFC 9110, section 7.6.1): they are never stored and never passed on.

use http::header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName};

use crate::answer::keep_lines;

/// The fields that belong to one connection whatever `Connection` names: the base list for everybody who stores
/// an answer or passes a message on. `Trailer` is not here: it describes the body and goes with its trailers.
///
/// The two of proxy authentication are here because whoever takes this list is an origin to its callers, not their
/// proxy. `HTTP2-Settings` is a part of the `Upgrade: h2c` handshake.
pub const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what belongs to one connection, by itself or because `Connection` names it: it must never be stored.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|it| it.as_bytes().split(|it| *it == b','))
        .filter_map(|it| HeaderName::from_bytes(it.trim_ascii()).ok())
        .collect();
    keep_lines(headers, |name| !HOP_BY_HOP.contains(name) && !named.contains(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_lines_and_those_named_by_connection_are_not_stored() {
        let mut headers = HeaderMap::new();
        for name in &HOP_BY_HOP {
            headers.append(name, "1".parse().unwrap());
        }
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("connection", " , X-Other ,é"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("trailer", "x-sum"),
            ("etag", "\"1\""),
        ] {
            headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["trailer", "etag"]);
    }
}
