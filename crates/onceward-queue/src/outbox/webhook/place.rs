//! Where webhooks may go.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use url::Url;

/// Where webhooks may go. What would go elsewhere is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookPlace {
    /// To any URL that begins with `https://`. Written `https:`.
    Https,
    /// Also to `http://`, where anybody on the way can read and change it. Written `http:`.
    Anywhere,
    /// To this URL and what is below it. A destination may be relative, as links of a page are: `on-paid`, `?order=1`, or
    /// nothing for the URL itself.
    Under(Url),
}

/// A text that says no such place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write `https://host/path`, or `https:` for any URL that destinations name")]
pub struct BadPlace;

impl FromStr for WebhookPlace {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        match text {
            "https:" => return Ok(Self::Https),
            "http:" => return Ok(Self::Anywhere),
            _ => {}
        }
        let url = Url::parse(text).map_err(|_| BadPlace)?;
        let good = ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if good { Ok(Self::Under(url)) } else { Err(BadPlace) }
    }
}

impl fmt::Display for WebhookPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https => f.write_str("https:"),
            Self::Anywhere => f.write_str("http:"),
            Self::Under(url) => f.write_str(url.as_str()),
        }
    }
}

impl WebhookPlace {
    /// Where a destination leads, or why nothing is sent there.
    pub(super) fn of(&self, destination: &str) -> Result<Uri, &'static str> {
        const NO_URL: &str = "its destination is no URL";
        let Self::Under(base) = self else {
            let uri: Uri = destination.parse().map_err(|_| NO_URL)?;
            return match uri.scheme_str() {
                Some("https") => Ok(uri),
                Some("http") if *self == Self::Anywhere => Ok(uri),
                _ => Err("its destination is no URL that begins with https://"),
            };
        };
        // What the server is asked for is what was compared: dots are resolved here.
        let url = base.join(destination).map_err(|_| NO_URL)?;
        let below = url.path().strip_prefix(base.path());
        let below =
            below.is_some_and(|it| it.is_empty() || it.starts_with('/') || base.path().ends_with('/'));
        let has_user = !url.username().is_empty() || url.password().is_some();
        if url.origin() != base.origin() || !below || has_user {
            return Err("its destination is not below the URL that it may go to");
        }
        url.as_str().split('#').next().unwrap_or_default().parse().map_err(|_| NO_URL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_below_its_place_or_refused() {
        let leads = |place: &str, to: &str| {
            place.parse::<WebhookPlace>().unwrap().of(to).map(|it| it.to_string()).ok()
        };
        let hooks = "https://shop.example/hooks/";
        for (place, to, wanted) in [
            ("https:", "https://a.example/b", Some("https://a.example/b")),
            ("https:", "http://a.example/b", None),
            ("http:", "http://a.example/b", Some("http://a.example/b")),
            (hooks, "", Some(hooks)),
            (hooks, "on-paid?x=1#y", Some("https://shop.example/hooks/on-paid?x=1")),
            (hooks, "https://shop.example/hooks/a", Some("https://shop.example/hooks/a")),
            (hooks, "https://SHOP.example:443/hooks/a", Some("https://shop.example/hooks/a")),
            (hooks, "../admin", None),
            (hooks, "%2e%2e/admin", None),
            (hooks, "/hooks", None),
            (hooks, "//evil.example/hooks/a", None),
            (hooks, "http://shop.example/hooks/a", None),
            (hooks, "https://shop.example:444/hooks/a", None),
            (hooks, "https://shop.example@evil.example/hooks/a", None),
            (hooks, "https://me@shop.example/hooks/a", None),
            (hooks, "mailto:a@b", None),
            ("https://shop.example/on", "", Some("https://shop.example/on")),
            ("https://shop.example/on", "?x=1", Some("https://shop.example/on?x=1")),
            ("https://shop.example/on", "/on/a", Some("https://shop.example/on/a")),
            ("https://shop.example/on", "/once", None),
        ] {
            assert_eq!(leads(place, to).as_deref(), wanted, "{place} {to}");
        }
        for wrong in ["", "shop.example", "ftp://a/b", "https://me:pw@a/b", "https://a/b?x=1", "https"] {
            assert_eq!(wrong.parse::<WebhookPlace>(), Err(BadPlace), "{wrong}");
        }
        for text in ["https:", "http:", hooks] {
            assert_eq!(text.parse::<WebhookPlace>().unwrap().to_string(), text);
        }
    }
}
