//! One value as it was found, and how each type of setting reads and shows itself.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Uri};
use toml::de::DeValue;

use super::{
    HostRule, InFlight, KeyRule, Log, Oversize, PathPattern, Principal, Protocol, StoreUrl, Unresolved, units,
};

/// A value as it was found.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A string of the file.
    Text(String),
    /// A variable or flag, which has no types: it may also mean a number, a boolean or a list.
    Untyped(String),
    Number(String),
    Boolean(bool),
    List(Vec<Value>),
    Table,
    Other(String),
}

/// Why a value is not accepted.
#[derive(Debug)]
pub(super) enum Bad {
    /// It is not what the key accepts.
    NotAccepted,
    /// There is more to say than what the key accepts.
    Because(String),
}

/// A type of setting.
pub(super) trait Setting: Sized {
    /// Reads it. Bounds of a single key are the key's business, not the type's.
    fn take(value: &Value) -> Result<Self, Bad>;
    /// Writes it as TOML.
    fn show(&self) -> String;
}

// === impl Value ===

impl Value {
    pub(super) fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(it) => Self::Text(it.clone().into_owned()),
            DeValue::Integer(it) => Self::Number(it.to_string()),
            DeValue::Boolean(it) => Self::Boolean(*it),
            DeValue::Array(it) => Self::List(it.iter().map(|it| Self::of(it.get_ref())).collect()),
            DeValue::Table(_) => Self::Table,
            DeValue::Float(it) => Self::Other(it.to_string()),
            DeValue::Datetime(it) => Self::Other(it.to_string()),
        }
    }

    fn text(&self) -> Result<&str, Bad> {
        match self {
            Self::Text(it) | Self::Untyped(it) => Ok(it),
            Self::Number(_) | Self::Boolean(_) | Self::List(_) | Self::Table | Self::Other(_) => {
                Err(Bad::NotAccepted)
            }
        }
    }

    /// The members of a list; an untyped value is a TOML array when it begins like one, else split at commas.
    fn members(&self) -> Result<Vec<Self>, Bad> {
        match self {
            Self::List(members) => Ok(members.clone()),
            Self::Untyped(text) if text.trim_start().starts_with('[') => {
                match DeValue::parse(text.trim()).map(|value| Self::of(value.get_ref())) {
                    Ok(Self::List(members)) => Ok(members),
                    Ok(_) | Err(_) => Err(Bad::NotAccepted),
                }
            }
            Self::Untyped(text) if text.trim().is_empty() => Ok(Vec::new()),
            Self::Untyped(text) => Ok(text.split(',').map(|it| Self::Untyped(it.trim().into())).collect()),
            Self::Text(_) | Self::Number(_) | Self::Boolean(_) | Self::Table | Self::Other(_) => {
                Err(Bad::NotAccepted)
            }
        }
    }
}

/// The value as an error message repeats it: passwords hidden, never long.
impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(it) | Self::Untyped(it) => {
                let shown = hidden(it);
                match shown.char_indices().nth(80) {
                    Some((end, _)) => write!(out, "{:?}…", &shown[..end]),
                    None => write!(out, "{shown:?}"),
                }
            }
            Self::Number(it) | Self::Other(it) => out.write_str(it),
            Self::Boolean(it) => write!(out, "{it}"),
            Self::List(members) => {
                let shown: Vec<_> = members.iter().take(10).map(ToString::to_string).collect();
                write!(out, "[{}{}]", shown.join(", "), if members.len() > 10 { ", …" } else { "" })
            }
            Self::Table => out.write_str("a table"),
        }
    }
}

/// Hides what stands before the `@` of a URL: a password after `USER:`, else all of it. Works on whatever was
/// typed, so that a URL too broken to parse gives nothing away either.
pub(super) fn hidden(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    match text[start..].rfind('@') {
        Some(at) if !text.starts_with("embedded:") => {
            let (userinfo, rest) = text[start..].split_at(at);
            let user = userinfo.split_once(':').map_or(String::new(), |(user, _)| format!("{user}:"));
            format!("{}{user}***{rest}", &text[..start])
        }
        Some(_) | None => text.into(),
    }
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn listed<'a, T: 'a>(members: impl IntoIterator<Item = &'a T>, show: impl Fn(&T) -> String) -> String {
    format!("[{}]", members.into_iter().map(show).collect::<Vec<_>>().join(", "))
}

// === impl Setting ===

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

impl Setting for PathPattern {
    fn take(value: &Value) -> Result<Self, Bad> {
        Self::parse(value.text()?).map_err(Bad::Because)
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
        listed(self, |url| quoted(hidden(&url.to_string()).trim_end_matches('/')))
    }
}

fn upstream_url(text: &str) -> Result<Uri, Bad> {
    let url: Uri = text.parse().map_err(|_| Bad::NotAccepted)?;
    let authority = url.authority().ok_or(Bad::NotAccepted)?;
    match url.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(Bad::Because("TLS to the upstream is not available in this build yet".into()));
        }
        Some(_) | None => return Err(Bad::NotAccepted),
    }
    if authority.as_str().contains('@') {
        let says = "credentials in the URL would not be sent; callers' own headers are passed on";
        return Err(Bad::Because(says.into()));
    }
    // The parser lets any digits stand as a port and then shows none.
    let port_is_wrong = authority.port_u16().is_none() && authority.as_str() != authority.host();
    if url.path() != "/" || url.query().is_some() || authority.host().is_empty() || port_is_wrong {
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
    Protocol { "http1" => Http1, "h2c" => H2c }
    HostRule { "preserve" => Preserve, "upstream" => Upstream }
    KeyRule { "required" => Required, "optional" => Optional, "ignored" => Ignored }
    Unresolved { "hold" => Hold, "rerun" => Rerun }
    Oversize { "pass" => Pass, "refuse" => Refuse }
}
