//! Reads a store URL, strictly: what is not known is refused by name.

use std::time::Duration;

use onceward_core::store::CALL_BUDGET_MAX;

use super::{
    Address, BUCKETS_MAX, CALL_TIMEOUT_MIN, Durability, PORT, Password, QUEUE_MAX, RedisSettings,
    SENTINEL_PORT, Sentinel, SettingsError,
};

pub(super) fn read(url: &str) -> Result<RedisSettings, SettingsError> {
    let (scheme, rest) = url.split_once("://").ok_or(SettingsError::Scheme)?;
    let rest_of_scheme = scheme.strip_prefix("redis").ok_or(SettingsError::Scheme)?;
    let (tls, kind) = match rest_of_scheme.strip_prefix('s') {
        Some(kind) if kind.is_empty() || kind.starts_with('-') => (true, kind),
        _ => (false, rest_of_scheme),
    };
    let (cluster, asks_sentinels) = match kind {
        "" => (false, false),
        "-cluster" => (true, false),
        "-sentinel" => (false, true),
        _ => return Err(SettingsError::Scheme),
    };
    // A password may hold `?` and `/` only as %3F and %2F.
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, place) = place.rsplit_once('@').map_or((None, place), |(login, it)| (Some(login), it));
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    let port = if asks_sentinels { SENTINEL_PORT } else { PORT };
    let servers = hosts.split(',').map(|it| address(it, port)).collect::<Option<Vec<_>>>();
    let servers = servers.ok_or(SettingsError::Server)?;
    if servers.len() > 1 && !cluster && !asks_sentinels {
        return Err(SettingsError::Several);
    }
    let (sentinel, path) = if asks_sentinels {
        let (name, path) = path.split_once('/').unwrap_or((path, ""));
        let name = unescape(name).filter(|it| !it.is_empty()).ok_or(SettingsError::Name)?;
        (Some(Sentinel { name, user: None, password: None }), path)
    } else {
        (None, path)
    };
    let database = match path {
        "" => 0,
        text => digits(text).and_then(|it| u16::try_from(it).ok()).ok_or(SettingsError::Database)?,
    };
    if cluster && database > 0 {
        return Err(SettingsError::ClusterDatabase);
    }
    let (user, password) = login.map_or(Ok((None, None)), self::login)?;
    let mut settings = RedisSettings {
        servers,
        cluster,
        sentinel,
        tls,
        user,
        password,
        database,
        ..RedisSettings::new("", PORT)
    };
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if seen.contains(&name) {
            return Err(SettingsError::Twice { name: name.to_owned() });
        }
        seen.push(name);
        set(&mut settings, name, value)?;
    }
    if settings.wait >= settings.call_timeout {
        return Err(SettingsError::Wait);
    }
    Ok(settings)
}

fn set(settings: &mut RedisSettings, name: &str, value: &str) -> Result<(), SettingsError> {
    let wrong = |name, remedy| SettingsError::Value { name, value: value.to_owned(), remedy };
    match name {
        "prefix" => {
            let fits = (1..=64).contains(&value.len())
                && value.bytes().all(|it| it.is_ascii_alphanumeric() || b"._:-".contains(&it));
            if !fits {
                return Err(wrong("prefix", "1 to 64 letters, digits and `._:-`"));
            }
            settings.prefix = value.to_owned();
        }
        "buckets" => {
            let count = digits(value).and_then(|it| u16::try_from(it).ok());
            let count = count.filter(|it| (1..=BUCKETS_MAX).contains(it));
            settings.buckets = Some(count.ok_or_else(|| wrong("buckets", "a whole number from 1 to 4096"))?);
        }
        "durability" => {
            settings.durability = Some(match value {
                "durable" => Durability::Durable,
                "relaxed" => Durability::Relaxed,
                _ => return Err(wrong("durability", "`durable` or `relaxed`")),
            });
        }
        "replicas" => {
            let count = digits(value).and_then(|it| u32::try_from(it).ok()).filter(|it| *it <= 16);
            settings.replicas = count.ok_or_else(|| wrong("replicas", "a whole number from 0 to 16"))?;
        }
        "wait" => {
            settings.wait = pause(value, Duration::from_millis(1))
                .ok_or_else(|| wrong("wait", "a duration such as `500ms` or `1s`"))?;
        }
        "call_timeout" => {
            settings.call_timeout = pause(value, CALL_TIMEOUT_MIN)
                .ok_or_else(|| wrong("call_timeout", "a duration such as `5s`, from 10ms to 5m"))?;
        }
        "max_queue" => {
            let count = digits(value).and_then(|it| usize::try_from(it).ok());
            let count = count.filter(|it| (1..=QUEUE_MAX).contains(it));
            settings.max_queue = count.ok_or_else(|| wrong("max_queue", "a whole number from 1 to 65536"))?;
        }
        "hints" => {
            settings.hints = match value {
                "on" => true,
                "off" => false,
                _ => return Err(wrong("hints", "`on` or `off`")),
            }
        }
        "ca" => {
            let path = unescape(value).filter(|it| !it.is_empty());
            settings.ca = Some(path.ok_or_else(|| wrong("ca", "the path of a PEM file"))?.into());
        }
        "sentinel_user" | "sentinel_password" => {
            let sentinel = settings.sentinel.as_mut();
            let sentinel = sentinel.ok_or_else(|| SettingsError::Unknown { name: name.to_owned() })?;
            let text = unescape(value).filter(|it| !it.is_empty()).ok_or(SettingsError::Login)?;
            if name == "sentinel_user" {
                sentinel.user = Some(text);
            } else {
                sentinel.password = Some(Password::new(text));
            }
        }
        _ => return Err(SettingsError::Unknown { name: name.to_owned() }),
    }
    Ok(())
}

fn address(text: &str, default_port: u16) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fits = !host.is_empty()
        && host.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_:".contains(&it))
        && (text.starts_with('[') || !host.contains(':'));
    let port = match port {
        None => default_port,
        Some(text) => digits(text).and_then(|it| u16::try_from(it).ok()).filter(|it| *it > 0)?,
    };
    fits.then(|| Address { host: host.to_owned(), port })
}

type Login = (Option<String>, Option<Password>);

/// `USER:PASSWORD`, `:PASSWORD`, or `USER` alone, which no server takes.
fn login(text: &str) -> Result<Login, SettingsError> {
    let (user, password) = text.split_once(':').ok_or(SettingsError::Login)?;
    let user = unescape(user).ok_or(SettingsError::Login)?;
    let password = unescape(password).filter(|it| !it.is_empty()).ok_or(SettingsError::Login)?;
    Ok(((!user.is_empty()).then_some(user), Some(Password::new(password))))
}

/// Undoes `%XX`.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let digit = |it: u8| char::from(it).to_digit(16);
            let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
            u8::try_from(value).ok()?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

/// Digits and nothing else: no sign.
fn digits(text: &str) -> Option<u64> {
    let fits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

fn pause(text: &str, least: Duration) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|it| (least..=CALL_BUDGET_MAX).contains(it))
}
