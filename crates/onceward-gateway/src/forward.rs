//! What changes in a message that is passed on, and nothing else does.
//!
//! 1. Fields that belong to one connection are dropped ([`hop`]), in both directions.
//! 2. The request line keeps the path and query byte for byte; only the upstream's prefix is put in front.
//! 3. The framing (`Content-Length`, chunked) is made anew from the body itself, never from what was claimed.
//! 4. The upstream learns who asked ([`forwarded`]), and by `Via` that this gateway stands between, as
//!    RFC 9110 section 7.6.3 demands of requests; responses need none and get none.
//!
//! `Expect` ends here: the server in front answers it. Redirects are none of our business.

mod forwarded;
pub(crate) mod hop;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version};

pub use self::forwarded::ClientAddr;
use self::forwarded::Seen;
use crate::upstream::{HostMode, Refusal, Target};
pub use onceward_http::SecureClient;

/// Fields that are written anew or end here. Static, for the reason given in [`hop`].
static MADE_ANEW: [HeaderName; 4] = [HOST, EXPECT, TRAILER, CONTENT_LENGTH];

/// The protocol of the connection that a request goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

/// How requests look on their way to one upstream.
#[derive(Debug)]
pub(crate) struct Outbound<'a> {
    pub(crate) target: &'a Target,
    pub(crate) spoken: Spoken,
    pub(crate) host: HostMode,
    pub(crate) trust_forwarded: bool,
    /// The protocol that the client asks to switch to, where that is passed on.
    pub(crate) upgrade: Option<&'a HeaderValue>,
    pub(crate) pass_through: bool,
}

impl Outbound<'_> {
    /// The head of the request as the upstream gets it. `body_bytes` is the length of its body, if known.
    ///
    /// # Errors
    /// A request that two readers could read as two different ones.
    pub(crate) fn rewrite(&self, parts: &Parts, body_bytes: Option<u64>) -> Result<Request<()>, Refusal> {
        if parts.method == Method::CONNECT {
            return Err(Refusal::Connect);
        }
        let asked_host = asked_host(&parts.uri, &parts.headers)?;
        let host = match (self.host, &asked_host) {
            (HostMode::Preserve, Some(host)) => host.clone(),
            (HostMode::Preserve, None) | (HostMode::Upstream, _) => self.target.authority.clone(),
        };
        let seen = Seen {
            client: parts.extensions.get::<ClientAddr>().copied(),
            secure: parts.extensions.get::<SecureClient>().is_some(),
            host: asked_host,
            trust_forwarded: self.trust_forwarded,
        };

        let mut headers = HeaderMap::with_capacity(parts.headers.len() + 8);
        if self.spoken == Spoken::Http1 {
            headers.insert(HOST, host.clone());
        }
        let trailers_wanted = hop::accepts_trailers(&parts.headers);
        let length_given = parts.headers.contains_key(CONTENT_LENGTH);
        hop::copy(&parts.headers, &mut headers, |name| self.drops(name));
        self.join_cookies(&mut headers);
        seen.write(&mut headers);
        append_via(&mut headers, parts.version);
        self.write_hop(&mut headers, trailers_wanted);
        self.write_framing(&mut headers, &parts.method, body_bytes, length_given);

        let mut request = Request::new(());
        *request.uri_mut() = self.uri(&parts.uri, &host)?;
        request.method_mut().clone_from(&parts.method);
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn drops(&self, name: &HeaderName) -> bool {
        // Only the layer may speak of fences and attempts, and it does so for operations alone.
        let ours = self.pass_through && hop::is_ours(name);
        ours || MADE_ANEW.contains(name)
    }

    /// HTTP/2 clients may split their cookies over several lines; HTTP/1.1 servers expect one.
    fn join_cookies(&self, headers: &mut HeaderMap) {
        if self.spoken == Spoken::Http1 && headers.get_all(COOKIE).iter().nth(1).is_some() {
            let joined = forwarded::join(headers.get_all(COOKIE).iter(), b"; ");
            headers.insert(COOKIE, joined);
        }
    }

    /// The fields of our own connection to the upstream.
    fn write_hop(&self, headers: &mut HeaderMap, trailers_wanted: bool) {
        let mut options = Vec::new();
        if trailers_wanted {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            options.push("te");
        }
        if let Some(upgrade) = self.upgrade {
            headers.insert(UPGRADE, upgrade.clone());
            options.push("upgrade");
        }
        if self.spoken == Spoken::Http1 && !options.is_empty() {
            let options = HeaderValue::from_str(&options.join(", ")).expect("two fixed words are a value");
            headers.insert(CONNECTION, options);
        }
    }

    fn write_framing(
        &self,
        headers: &mut HeaderMap,
        method: &Method,
        length: Option<u64>,
        length_given: bool,
    ) {
        let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
        match length {
            Some(0) if !length_given && !expects_body => {}
            Some(length) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
            // Said by name, since the client library takes a GET of unknown length for one without a body.
            None if self.spoken == Spoken::Http1 => {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            None => {}
        }
    }

    fn uri(&self, asked: &Uri, host: &HeaderValue) -> Result<Uri, Refusal> {
        let path = asked.path_and_query().map_or("/", PathAndQuery::as_str);
        // Most upstreams have no prefix; then the path is shared and not copied.
        let same =
            asked.path_and_query().filter(|_| self.target.prefix.is_empty() && path.starts_with(['/', '*']));
        let path = match (same, self.target.prefix.as_str()) {
            (Some(same), _) => same.clone(),
            (None, prefix) if path == "*" => whole(prefix.to_owned())?,
            // `http://host?query` has no path of its own.
            (None, prefix) if path.starts_with('?') => whole(format!("{prefix}/{path}"))?,
            (None, prefix) => whole(format!("{prefix}{path}"))?,
        };
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(path);
        if self.spoken == Spoken::Http2 {
            uri.scheme = Some(if self.target.is_tls() { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| Refusal::BadHost)?);
        }
        Uri::from_parts(uri).map_err(|_| Refusal::BadHost)
    }
}

fn whole(path: String) -> Result<PathAndQuery, Refusal> {
    PathAndQuery::from_maybe_shared(path).map_err(|_| Refusal::TooLong)
}

/// The headers of a response as the client gets them.
pub(crate) fn response_headers(upstream: HeaderMap, pass_through: bool) -> HeaderMap {
    // A length beside a transfer coding is not to be believed, and the coding ends here.
    let length_is_void = upstream.contains_key(TRANSFER_ENCODING);
    hop::keep(upstream, |name| {
        (length_is_void && name == CONTENT_LENGTH) || (pass_through && hop::is_ours(name))
    })
}

/// The host that the client named: the target's authority counts before the `Host` line.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    let mut lines = headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Refusal::BadHost);
    }
    let Some(authority) = uri.authority() else { return Ok(line.cloned()) };
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(host).map(Some).map_err(|_| Refusal::BadHost)
}

fn append_via(headers: &mut HeaderMap, received: Version) {
    let ours = match received {
        Version::HTTP_10 => "1.0 onceward",
        Version::HTTP_2 => "2 onceward",
        _ => "1.1 onceward",
    };
    forwarded::append(headers, VIA, HeaderValue::from_static(ours), |_| true);
}

#[cfg(test)]
mod tests;
