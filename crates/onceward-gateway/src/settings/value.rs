//! One value as it was found, and as an error message repeats it.

use std::fmt;

use toml::de::DeValue;

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

    /// The text of a string, typed or not.
    pub(super) fn text(&self) -> Result<&str, Bad> {
        match self {
            Self::Text(it) | Self::Untyped(it) => Ok(it),
            Self::Number(_) | Self::Boolean(_) | Self::List(_) | Self::Table | Self::Other(_) => {
                Err(Bad::NotAccepted)
            }
        }
    }

    /// The members of a list; an untyped value is a TOML array when it begins like one, else split at commas.
    pub(super) fn members(&self) -> Result<Vec<Self>, Bad> {
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
/// typed except plain paths, so that a URL too broken to parse gives nothing away either.
pub(super) fn hidden(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    match text[start..].rfind('@') {
        Some(at) if !text.starts_with("embedded:") && !text.starts_with('/') => {
            let (userinfo, rest) = text[start..].split_at(at);
            let user = userinfo.split_once(':').map_or(String::new(), |(user, _)| format!("{user}:"));
            format!("{}{user}***{rest}", &text[..start])
        }
        Some(_) | None => text.into(),
    }
}
