//! Works out who calls. One caller can never see another's answer, so doubt is refused.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};
use onceward_core::{Hasher, Principal};

use crate::problem::Problem;

/// How the principal of a request is worked out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PrincipalRule {
    /// `Authorization` when its scheme is Basic or Bearer, else `X-Api-Key`; no credential at all is the
    /// anonymous principal; anything else is refused.
    #[default]
    Auto,
    /// The value of this header; a request without it is refused.
    Header(HeaderName),
    /// The value of the cookie with this name; a request without it is refused.
    Cookie(String),
    /// Everybody is the same caller.
    None,
}

impl fmt::Display for PrincipalRule {
    /// The rule as settings spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::None => f.write_str("none"),
        }
    }
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The principal of a request.
pub(crate) fn principal_of(
    rule: &PrincipalRule,
    headers: &HeaderMap,
    hasher: &Hasher,
) -> Result<Principal, Problem> {
    match rule {
        PrincipalRule::None => Ok(Principal::ANONYMOUS),
        PrincipalRule::Header(name) => match single(headers, name)? {
            Some(value) => Ok(hasher.principal(name.as_str(), value)),
            None => Err(Problem::PrincipalUnknown(
                "The header that names the caller (setting `principal`) is missing; send it",
            )),
        },
        PrincipalRule::Cookie(name) => match cookie(headers, name)? {
            Some(value) => Ok(hasher.principal(&format!("cookie {name}"), value)),
            None => Err(Problem::PrincipalUnknown(
                "The cookie that names the caller (setting `principal`) is missing; send it",
            )),
        },
        PrincipalRule::Auto => auto(headers, hasher),
    }
}

fn auto(headers: &HeaderMap, hasher: &Hasher) -> Result<Principal, Problem> {
    if let Some(value) = single(headers, &AUTHORIZATION)? {
        let blank = value.iter().position(|it| *it == b' ').unwrap_or(value.len());
        let (scheme, credential) = value.split_at(blank);
        // The scheme's case does not make another caller.
        for known in ["basic", "bearer"] {
            if scheme.eq_ignore_ascii_case(known.as_bytes()) {
                return Ok(hasher.principal(known, credential.trim_ascii()));
            }
        }
        return Err(Problem::PrincipalUnknown(
            "The Authorization scheme is neither Basic nor Bearer, so callers cannot be told apart; set \
             `principal` for this route to the header or cookie that names the caller",
        ));
    }
    if let Some(value) = single(headers, &X_API_KEY)? {
        return Ok(hasher.principal(X_API_KEY.as_str(), value));
    }
    if headers.contains_key(COOKIE) {
        return Err(Problem::PrincipalUnknown(
            "The request has a Cookie and no Authorization, so callers cannot be told apart; set \
             `principal = \"cookie:NAME\"` for this route",
        ));
    }
    Ok(Principal::ANONYMOUS)
}

/// The only line of a header. Two lines could be read differently behind us, so they are refused.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Problem> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    if lines.next().is_some() {
        return Err(Problem::PrincipalUnknown(
            "The header that names the caller (setting `principal`) is there more than once; send it once",
        ));
    }
    Ok(first.map(|it| it.as_bytes().trim_ascii()))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, Problem> {
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|it| *it == b';') {
            let Some(equals) = pair.iter().position(|it| *it == b'=') else { continue };
            let (key, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            if key == name.as_bytes() && found.replace(value).is_some() {
                return Err(Problem::PrincipalUnknown(
                    "The cookie that names the caller (setting `principal`) is there more than once",
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rule: &PrincipalRule, lines: &[(&'static str, &str)]) -> Result<Principal, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        principal_of(rule, &headers, &Hasher::new(b"secret"))
    }

    #[test]
    fn auto_knows_basic_bearer_api_keys_and_nobody() {
        let auto = PrincipalRule::Auto;
        let bearer = of(&auto, &[("authorization", "Bearer t1")]).unwrap();
        assert_eq!(of(&auto, &[("authorization", "bearer  t1")]), Ok(bearer));
        assert_ne!(of(&auto, &[("authorization", "Bearer t2")]), Ok(bearer));
        assert_ne!(of(&auto, &[("authorization", "Basic t1")]), Ok(bearer));
        assert_ne!(of(&auto, &[("x-api-key", "t1")]), Ok(bearer));
        assert_eq!(of(&auto, &[("authorization", "Bearer t1"), ("x-api-key", "z")]), Ok(bearer));
        assert_eq!(of(&auto, &[("authorization", "Bearer t1"), ("cookie", "a=b")]), Ok(bearer));
        assert_eq!(of(&auto, &[]), Ok(Principal::ANONYMOUS));
    }

    #[test]
    fn a_caller_that_cannot_be_worked_out_is_refused() {
        let auto = PrincipalRule::Auto;
        for lines in [
            [("authorization", "Digest x")].as_slice(),
            &[("authorization", "AWS4-HMAC-SHA256 x")],
            &[("authorization", "Token")],
            &[("cookie", "session=1")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[("x-api-key", "a"), ("x-api-key", "b")],
        ] {
            assert!(matches!(of(&auto, lines), Err(Problem::PrincipalUnknown(_))), "{lines:?}");
        }
    }

    #[test]
    fn a_named_header_or_cookie_tells_callers_apart() {
        let header = PrincipalRule::Header(HeaderName::from_static("x-user"));
        assert_ne!(of(&header, &[("x-user", "a")]), of(&header, &[("x-user", "b")]));
        assert!(of(&header, &[("cookie", "x=1")]).is_err());
        assert!(of(&header, &[]).is_err());
        let cookie = PrincipalRule::Cookie("sid".into());
        let one = of(&cookie, &[("cookie", "theme=dark; sid=1")]).unwrap();
        assert_eq!(of(&cookie, &[("cookie", "sid=1")]), Ok(one));
        assert_ne!(of(&cookie, &[("cookie", "sid=2")]), Ok(one));
        assert!(of(&cookie, &[("cookie", "sid=1; sid=2")]).is_err());
        assert!(of(&cookie, &[("cookie", "theme=dark")]).is_err());
        assert_ne!(of(&PrincipalRule::Header(HeaderName::from_static("sid")), &[("sid", "1")]), Ok(one));
    }
}
