//! How each type of setting is read and shown.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Uri};

use super::value::{Bad, Value, hidden};
use super::{
    AccessLog, Balance, Compare, HostRule, InFlight, KeyRule, KeySource, Log, Oversize, PathPattern,
    Principal, Protocol, Scheme, StoreUrl, Unresolved, units,
};

/// A type of setting.
pub(super) trait Setting: Sized {
    /// Reads it. Bounds of a single key are the key's business, not the type's.
    fn take(value: &Value) -> Result<Self, Bad>;
    /// Writes it as TOML.
    fn show(&self) -> String;
}

impl Setting for bool {
    fn take(value: &Value) -> Result<Self, Bad> {
        match value {
            Value::Boolean(it) => Ok(*it),
            Value::Untyped(it) => it.parse().map_err(|_| Bad::NotAccepted),
            Value::Text(_) | Value::Number(_) | Value::List(_) | Value::Table | Value::Other(_) => {
                Err(Bad::NotAccepted)
            }
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number of bytes.
impl Setting for u64 {
    fn take(value: &Value) -> Result<Self, Bad> {
        let text = if let Value::Number(it) = value { it } else { value.text()? };
        units::bytes(text).ok_or(Bad::NotAccepted)
    }

    fn show(&self) -> String {
        quoted(&units::show_bytes(*self))
    }
}

/// A count.
impl Setting for u32 {
    fn take(value: &Value) -> Result<Self, Bad> {
        let (Value::Number(text) | Value::Untyped(text)) = value else { return Err(Bad::NotAccepted) };
        text.parse().map_err(|_| Bad::NotAccepted)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    fn take(value: &Value) -> Result<Self, Bad> {
        units::duration(value.text()?).ok_or(Bad::NotAccepted)
    }

    fn show(&self) -> String {
        quoted(&units::show_duration(*self))
    }
}

impl Setting for SocketAddr {
    fn take(value: &Value) -> Result<Self, Bad> {
        value.text()?.parse().map_err(|_| Bad::NotAccepted)
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for String {
    fn take(value: &Value) -> Result<Self, Bad> {
        value.text().map(Into::into)
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for PathBuf {
    fn take(value: &Value) -> Result<Self, Bad> {
        value.text().map(Into::into)
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for StoreUrl {
    fn take(value: &Value) -> Result<Self, Bad> {
        Self::parse(value.text()?).map_err(Bad::Because)
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

/// Empty for none.
impl Setting for Option<StoreUrl> {
    fn take(value: &Value) -> Result<Self, Bad> {
        if value.text()?.is_empty() { Ok(None) } else { StoreUrl::take(value).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), StoreUrl::show)
    }
}

impl Setting for PathPattern {
    fn take(value: &Value) -> Result<Self, Bad> {
        Self::parse(value.text()?).map_err(|it| Bad::Because(it.to_string()))
    }

    fn show(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for Vec<Uri> {
    fn take(value: &Value) -> Result<Self, Bad> {
        value.members()?.iter().map(|it| upstream_url(it.text()?)).collect()
    }

    fn show(&self) -> String {
        // The parser adds the slash of an empty path.
        let bare = |url: &Uri| {
            if url.path() == "/" { url.to_string().trim_end_matches('/').into() } else { url.to_string() }
        };
        listed(self, |url| quoted(&hidden(&bare(url))))
    }
}

fn upstream_url(text: &str) -> Result<Uri, Bad> {
    let url: Uri = text.parse().map_err(|_| Bad::NotAccepted)?;
    let authority = url.authority().ok_or(Bad::NotAccepted)?;
    match url.scheme_str() {
        Some("http" | "https") => {}
        Some(_) | None => return Err(Bad::NotAccepted),
    }
    if authority.as_str().contains('@') {
        let says = "credentials in the URL would not be sent; callers' own headers are passed on";
        return Err(Bad::Because(says.into()));
    }
    // The parser lets any digits stand as a port and then shows none.
    let port_is_wrong = authority.port_u16().is_none() && authority.as_str() != authority.host();
    if url.query().is_some() || authority.host().is_empty() || port_is_wrong {
        return Err(Bad::NotAccepted);
    }
    Ok(url)
}

impl Setting for Vec<Method> {
    fn take(value: &Value) -> Result<Self, Bad> {
        let mut methods = Vec::new();
        for member in value.members()? {
            let name = member.text()?;
            let method = Method::from_bytes(name.as_bytes()).map_err(|_| Bad::NotAccepted)?;
            if method.is_safe() || method == Method::CONNECT {
                return Err(Bad::Because(format!(
                    "{method} always passes through and is never an operation"
                )));
            }
            if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
                let upper = name.to_ascii_uppercase();
                return Err(Bad::Because(format!("methods are in upper case, so write {upper}")));
            }
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if methods.is_empty() { Err(Bad::NotAccepted) } else { Ok(methods) }
    }

    fn show(&self) -> String {
        listed(self, |method| quoted(method.as_str()))
    }
}

/// Names whose shape is judged elsewhere.
impl Setting for Vec<String> {
    fn take(value: &Value) -> Result<Self, Bad> {
        value.members()?.iter().map(|it| it.text().map(Into::into)).collect()
    }

    fn show(&self) -> String {
        listed(self, |it| quoted(it))
    }
}

/// Header names, in lower case.
impl Setting for BTreeSet<String> {
    fn take(value: &Value) -> Result<Self, Bad> {
        let name = |member: &Value| {
            let name = http::HeaderName::from_bytes(member.text()?.as_bytes());
            name.map(|it| it.as_str().to_owned()).map_err(|_| Bad::NotAccepted)
        };
        value.members()?.iter().map(name).collect()
    }

    fn show(&self) -> String {
        listed(self, |it| quoted(it))
    }
}

/// HTTP statuses.
impl Setting for BTreeSet<u16> {
    fn take(value: &Value) -> Result<Self, Bad> {
        let status = |member: &Value| {
            let (Value::Number(text) | Value::Untyped(text)) = member else { return Err(Bad::NotAccepted) };
            let status = text.parse().ok().filter(|status| (400..=599).contains(status));
            status.ok_or(Bad::NotAccepted)
        };
        value.members()?.iter().map(status).collect()
    }

    fn show(&self) -> String {
        listed(self, ToString::to_string)
    }
}

impl Setting for InFlight {
    fn take(value: &Value) -> Result<Self, Bad> {
        match value.text()?.split_once(' ') {
            None if value.text()? == "reject" => Ok(Self::Reject),
            Some(("wait", max)) => {
                let max = units::duration(max).filter(|max| !max.is_zero());
                max.map(Self::Wait).ok_or(Bad::NotAccepted)
            }
            Some(_) | None => Err(Bad::NotAccepted),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Reject => quoted("reject"),
            Self::Wait(max) => quoted(&format!("wait {}", units::show_duration(*max))),
        }
    }
}

impl Setting for KeySource {
    fn take(value: &Value) -> Result<Self, Bad> {
        value.text()?.parse().map_err(|_| Bad::NotAccepted)
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

/// Empty for none.
impl Setting for Option<Scheme> {
    fn take(value: &Value) -> Result<Self, Bad> {
        let text = value.text()?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| Bad::NotAccepted) }
    }

    fn show(&self) -> String {
        quoted(&self.as_ref().map_or_else(String::new, ToString::to_string))
    }
}

impl Setting for Principal {
    fn take(value: &Value) -> Result<Self, Bad> {
        let token = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| Bad::NotAccepted);
        match value.text()?.split_once(':') {
            None if value.text()? == "auto" => Ok(Self::Auto),
            None if value.text()? == "none" => Ok(Self::None),
            Some(("header", name)) => token(name).map(|name| Self::Header(name.as_str().into())),
            // A cookie name is a token like a header name, but its case counts.
            Some(("cookie", name)) => token(name).map(|_| Self::Cookie(name.into())),
            Some(_) | None => Err(Bad::NotAccepted),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => quoted("auto"),
            Self::Header(name) => quoted(&format!("header:{name}")),
            Self::Cookie(name) => quoted(&format!("cookie:{name}")),
            Self::None => quoted("none"),
        }
    }
}

/// A setting that is one of a few words.
macro_rules! words {
    ($($type:ident { $($word:literal => $variant:ident),+ })+) => {$(
        impl Setting for $type {
            fn take(value: &Value) -> Result<Self, Bad> {
                match value.text()? {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Bad::NotAccepted),
                }
            }

            fn show(&self) -> String {
                match self { $(Self::$variant => quoted($word),)+ }
            }
        }
    )+};
}

words! {
    Log { "json" => Json, "human" => Human }
    AccessLog { "all" => All, "duplicates" => Duplicates, "none" => None }
    Balance { "round-robin" => RoundRobin, "least-busy" => LeastBusy, "key-hash" => KeyHash }
    Protocol { "auto" => Auto, "http1" => Http1, "h2" => H2, "h2c" => H2c }
    HostRule { "auto" => Auto, "preserve" => Preserve, "upstream" => Upstream }
    KeyRule { "required" => Required, "optional" => Optional, "ignored" => Ignored }
    Compare { "request" => Request, "nothing" => Nothing }
    Unresolved { "hold" => Hold, "rerun" => Rerun }
    Oversize { "pass" => Pass, "refuse" => Refuse }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn listed<'a, T: 'a>(members: impl IntoIterator<Item = &'a T>, show: impl Fn(&T) -> String) -> String {
    format!("[{}]", members.into_iter().map(show).collect::<Vec<_>>().join(", "))
}
