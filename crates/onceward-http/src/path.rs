//! Which paths a route covers.

use std::borrow::Cow;
use std::fmt;

/// A path pattern: exact (`/payments`), with one-segment places (`/orders/{id}`), or a prefix (`/v1/**`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    prefix: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    Any,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::read(text).map_err(PatternError)
    }

    fn read(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('/').ok_or("a path pattern begins with `/`")?;
        let mut names: Vec<&str> = inner.split('/').collect();
        let prefix = names.last() == Some(&"**");
        if prefix {
            names.pop();
        }
        let last = names.len().saturating_sub(1);
        let segments = names.iter().enumerate().map(|(at, name)| {
            // Only the very end may be empty: `/` itself, or a path that ends with a slash.
            if name.is_empty() && (prefix || at != last) { Err(EMPTY.into()) } else { segment(name) }
        });
        let segments = segments.collect::<Result<_, String>>()?;
        Ok(Self { text: text.into(), segments, prefix })
    }

    /// Whether the pattern covers a path whose unreserved escapes and dot segments are already resolved.
    /// `{id}` takes one segment that is not empty; `/v1/**` takes `/v1` too.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(inner) = path.strip_prefix('/') else { return false };
        let mut names = inner.split('/');
        for segment in &self.segments {
            match (segment, names.next()) {
                (Segment::Exact(expected), Some(name)) if expected == name => {}
                (Segment::Any, Some(name)) if !name.is_empty() => {}
                (Segment::Exact(_) | Segment::Any, _) => return false,
            }
        }
        self.prefix || names.next().is_none()
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether every path of `other` is a path of this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let long_enough = match (self.prefix, other.prefix) {
            (true, _) => self.segments.len() <= other.segments.len(),
            (false, false) => self.segments.len() == other.segments.len(),
            (false, true) => false,
        };
        let wide_enough = |(mine, theirs): (&Segment, &Segment)| match (mine, theirs) {
            (Segment::Any, Segment::Any) => true,
            (Segment::Any, Segment::Exact(name)) => !name.is_empty(),
            (Segment::Exact(mine), Segment::Exact(theirs)) => mine == theirs,
            (Segment::Exact(_), Segment::Any) => false,
        };
        long_enough && self.segments.iter().zip(&other.segments).all(wide_enough)
    }

    /// The pattern of the paths that both cover; `None` when no path is covered by both.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        let (short, long) =
            if self.segments.len() <= other.segments.len() { (self, other) } else { (other, self) };
        if short.segments.len() < long.segments.len() && !short.prefix {
            return None;
        }
        let mut segments = Vec::with_capacity(long.segments.len());
        for (at, theirs) in long.segments.iter().enumerate() {
            segments.push(match (short.segments.get(at), theirs) {
                (Some(Segment::Exact(mine)), Segment::Exact(theirs)) if mine != theirs => return None,
                // The empty name at the end of a path is none that `{id}` takes.
                (Some(Segment::Any), Segment::Exact(name)) | (Some(Segment::Exact(name)), Segment::Any)
                    if name.is_empty() =>
                {
                    return None;
                }
                (Some(Segment::Exact(name)), _) | (_, Segment::Exact(name)) => Segment::Exact(name.clone()),
                (Some(Segment::Any) | None, Segment::Any) => Segment::Any,
            });
        }
        let prefix = if short.segments.len() == long.segments.len() {
            short.prefix && long.prefix
        } else {
            long.prefix
        };
        let mut text = String::new();
        for segment in &segments {
            text.push('/');
            text.push_str(match segment {
                Segment::Exact(name) => name,
                Segment::Any => "{}",
            });
        }
        text.push_str(if prefix { "/**" } else { "" });
        Some(Self { text, segments, prefix })
    }
}

/// What is wrong with a text that is no [`PathPattern`], as half a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// A path as routes see it: escapes of unreserved characters undone, dot segments resolved (RFC 3986,
/// sections 6.2.2.2 and 5.2.4), so that `/%70ayments` and `/x/../payments` cannot dodge a rule.
pub(crate) fn normal_path(path: &str) -> Cow<'_, str> {
    if path.contains('%') || path.contains("//") || path.contains("/.") {
        return Cow::Owned(resolved(path));
    }
    // Nothing to undo, as in nearly every path.
    Cow::Borrowed(path)
}

fn resolved(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|it| u8::from_str_radix(it, 16).ok()).map(char::from);
        match code {
            Some(it) if it.is_ascii_alphanumeric() || "-._~".contains(it) => {
                plain.push(it);
                rest = &rest[at + 3..];
            }
            Some(_) => {
                plain.push_str(&rest[at..at + 3].to_ascii_uppercase());
                rest = &rest[at + 3..];
            }
            None => {
                plain.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    // Many servers take `//payments` for `/payments`, so rules must, too.
    while let Some(at) = plain.find("//") {
        plain.remove(at);
    }
    if !plain.split('/').any(|it| it == "." || it == "..") {
        return plain;
    }
    let mut out: Vec<&str> = Vec::new();
    let mut segments = plain.split('/').peekable();
    while let Some(it) = segments.next() {
        let last = segments.peek().is_none();
        match it {
            "." | ".." => {
                if it == ".." && out.len() > 1 {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            _ => out.push(it),
        }
    }
    out.join("/")
}

const EMPTY: &str = "a path pattern has no empty segment";

fn segment(name: &str) -> Result<Segment, String> {
    if let Some(place) = name.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let named = !place.is_empty() && place.bytes().all(plain);
        return if named {
            Ok(Segment::Any)
        } else {
            Err(format!("`{name}` needs a plain name, such as `{{id}}`"))
        };
    }
    if name == "." || name == ".." {
        return Err(format!("`{name}` is resolved before routes are looked at, so it never matches"));
    }
    if name == "**" {
        return Err("`**` stands only at the end, as in `/v1/**`".into());
    }
    if name.contains('*') {
        return Err("`*` stands only at the end, as in `/v1/**`; one segment is `{id}`".into());
    }
    if name.contains(['{', '}']) {
        return Err(format!("`{name}`: a place is a whole segment, as in `/orders/{{id}}`"));
    }
    if let Some(odd) = name.chars().find(|&char| !char.is_ascii_graphic() || "?#\\\"<>^`|".contains(char)) {
        return Err(format!("{odd:?} cannot stand in a path; escape it with %"));
    }
    escapes_can_match(name)?;
    Ok(Segment::Exact(normal_path(name).into_owned()))
}

/// An escaped unreserved character is resolved before routes are looked at, so it would never match.
fn escapes_can_match(name: &str) -> Result<(), String> {
    for after in name.split('%').skip(1) {
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let byte = byte.ok_or("`%` is followed by two hexadecimal digits")?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return Err(format!("write `{}` for `%{}`", char::from(byte), &after[..2]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), expected, "{pattern} on {path}");
    }

    #[test]
    fn an_exact_pattern_covers_one_path() {
        check("/payments", "/payments", true);
        check("/payments", "/payments/", false);
        check("/payments", "/payments/1", false);
        check("/payments", "/Payments", false);
        check("/payments/", "/payments/", true);
        check("/payments/", "/payments", false);
        check("/", "/", true);
        check("/", "/a", false);
        check("/a%2Fb", "/a%2Fb", true);
        check("/a", "a", false);
        check("/a", "*", false);
    }

    #[test]
    fn a_place_takes_exactly_one_segment() {
        check("/orders/{id}", "/orders/7", true);
        check("/orders/{id}", "/orders/", false);
        check("/orders/{id}", "/orders", false);
        check("/orders/{id}", "/orders/7/lines", false);
        check("/orders/{id}/lines", "/orders/7/lines", true);
    }

    #[test]
    fn a_prefix_covers_its_own_root_and_everything_below() {
        check("/v1/**", "/v1", true);
        check("/v1/**", "/v1/", true);
        check("/v1/**", "/v1/a/b", true);
        check("/v1/**", "/v10", false);
        check("/v1/**", "/", false);
        check("/**", "/", true);
        check("/**", "/a/b", true);
        check("/{tenant}/v1/**", "/acme/v1/x", true);
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused() {
        for (pattern, expected) in [
            ("", "a path pattern begins with `/`"),
            ("payments", "a path pattern begins with `/`"),
            ("//a", "a path pattern has no empty segment"),
            ("/a//b", "a path pattern has no empty segment"),
            ("/a//**", "a path pattern has no empty segment"),
            ("/**/a", "`**` stands only at the end, as in `/v1/**`"),
            ("/v1/*", "`*` stands only at the end, as in `/v1/**`; one segment is `{id}`"),
            ("/v1**", "`*` stands only at the end, as in `/v1/**`; one segment is `{id}`"),
            ("/orders/{}", "`{}` needs a plain name, such as `{id}`"),
            ("/orders/{a b}", "`{a b}` needs a plain name, such as `{id}`"),
            ("/orders/x{id}", "`x{id}`: a place is a whole segment, as in `/orders/{id}`"),
            ("/a/../b", "`..` is resolved before routes are looked at, so it never matches"),
            ("/a?b=1", "'?' cannot stand in a path; escape it with %"),
            ("/a b", "' ' cannot stand in a path; escape it with %"),
            ("/käse", "'ä' cannot stand in a path; escape it with %"),
            ("/%70ay", "write `p` for `%70`"),
            ("/%zz", "`%` is followed by two hexadecimal digits"),
            ("/%a", "`%` is followed by two hexadecimal digits"),
        ] {
            assert_eq!(PathPattern::parse(pattern).unwrap_err().to_string(), expected, "{pattern:?}");
        }
    }

    #[test]
    fn covering_follows_from_matching() {
        let all =
            ["/", "/**", "/a", "/a/", "/a/**", "/{x}", "/{x}/**", "/a/{x}", "/a/b", "/{x}/b", "/{x}/{y}"];
        let paths = ["/", "/a", "/a/", "/c", "/c/", "/a/b", "/a/c", "/c/b", "/c/d", "/a/b/c", "/c/d/e"];
        for (wide, narrow) in all.iter().flat_map(|wide| all.iter().map(move |narrow| (wide, narrow))) {
            let (wide, narrow) = (PathPattern::parse(wide).unwrap(), PathPattern::parse(narrow).unwrap());
            let seen = paths.iter().all(|path| !narrow.matches(path) || wide.matches(path));
            assert_eq!(wide.covers(&narrow), seen, "{wide} over {narrow}");
        }
    }
}
