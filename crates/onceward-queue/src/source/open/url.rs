//! URLs of sources, read part by part.

use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::UrlError;

/// A URL whose parameters are taken one by one, so that what is left over is told.
#[derive(Debug)]
pub struct SourceUrl {
    /// With the first of its hosts.
    url: Url,
    /// User, password and all hosts, as they stand there.
    authority: String,
    parameters: Vec<(String, String)>,
}

impl SourceUrl {
    /// Reads a URL of one host.
    ///
    /// # Errors
    /// It is none, or it has no host or several.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let read = Self::parse_several(url)?;
        if read.hosts().contains(',') {
            return Err(UrlError::Several);
        }
        Ok(read)
    }

    /// Reads a URL that may have several hosts, with commas between.
    ///
    /// # Errors
    /// It is none, or it has no host.
    pub fn parse_several(text: &str) -> Result<Self, UrlError> {
        // What is no URL may still have a password in it.
        let no_url = || UrlError::NoUrl(text.rsplit('@').next().unwrap_or_default().to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(no_url)?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // No host of a URL has a comma: every one is read in the place of the first.
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        let mut first = None;
        for host in hosts.split(',') {
            if host.is_empty() {
                return Err(UrlError::Missing("a host"));
            }
            let url = Url::parse(&format!("{scheme}://{login}{host}{rest}")).map_err(|_| no_url())?;
            if url.host_str().is_none_or(str::is_empty) {
                return Err(UrlError::Missing("a host"));
            }
            first.get_or_insert(url);
        }
        let url = first.ok_or_else(no_url)?;
        let parameters = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned()));
        Ok(Self { parameters: parameters.collect(), authority: authority.to_owned(), url })
    }

    /// User, password, hosts and ports, as they stand there.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The hosts and ports, as they stand there.
    #[must_use]
    pub fn hosts(&self) -> &str {
        self.authority.rsplit('@').next().unwrap_or_default()
    }

    /// The hosts, without the brackets of IPv6, and their ports.
    ///
    /// # Errors
    /// There is one that cannot be read.
    #[cfg(feature = "redis-streams")]
    pub fn places(&self, port: u16) -> Result<Vec<(String, u16)>, UrlError> {
        let place = |it: &str| {
            let url = Url::parse(&format!("host://{it}")).map_err(|_| UrlError::Missing("a host"))?;
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            Ok((host, url.port().unwrap_or(port)))
        };
        self.hosts().split(',').map(place).collect()
    }

    /// User and password, as they are meant: what is written as `%2F` is a slash.
    ///
    /// # Errors
    /// They are not text, or there is a user without a password.
    #[cfg(any(feature = "kafka", feature = "redis-streams", feature = "sqs"))]
    pub fn login(&self) -> Result<Option<(String, String)>, UrlError> {
        if self.url.username().is_empty() && self.url.password().is_none() {
            return Ok(None);
        }
        let decoded = |it: &str| {
            let text = percent_encoding::percent_decode_str(it).decode_utf8();
            text.map(std::borrow::Cow::into_owned).map_err(|_| UrlError::Missing("user and password as text"))
        };
        let password = self.url.password().ok_or(UrlError::Missing("the password of its user"))?;
        Ok(Some((decoded(self.url.username())?, decoded(password)?)))
    }

    /// Takes all parameters that have such a name.
    #[cfg(feature = "kafka")]
    pub fn take_all(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let (taken, left) = std::mem::take(&mut self.parameters).into_iter().partition(|it| wanted(&it.0));
        self.parameters = left;
        taken
    }

    /// The parsed URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The path without its first slash.
    ///
    /// # Errors
    /// There is none.
    pub fn name(&self, what: &'static str) -> Result<String, UrlError> {
        let name = self.url.path().trim_start_matches('/');
        if name.is_empty() { Err(UrlError::Missing(what)) } else { Ok(name.to_owned()) }
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn take<T: FromStr>(&mut self, name: &'static str, wanted: &str) -> Result<Option<T>, UrlError> {
        let Some(at) = self.parameters.iter().position(|it| it.0 == name) else { return Ok(None) };
        let value = self.parameters.remove(at).1;
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(UrlError::Parameter { name, value, wanted: wanted.to_owned() }),
        }
    }

    /// A parameter that is one of a few words.
    ///
    /// # Errors
    /// It is another.
    pub fn choose<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, UrlError> {
        let Some(value) = self.take::<String>(name, "")? else { return Ok(None) };
        match words.iter().find(|it| it.0 == value) {
            Some((_, chosen)) => Ok(Some(*chosen)),
            None => {
                let words: Vec<_> = words.iter().map(|it| it.0).collect();
                Err(UrlError::Parameter { name, value, wanted: words.join(" or ") })
            }
        }
    }

    /// A time such as `30s`.
    ///
    /// # Errors
    /// It is none.
    pub fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, UrlError> {
        let wanted = "a number with a unit: 500ms, 30s, 10m";
        Ok(self.take::<humantime::Duration>(name, wanted)?.map(Into::into))
    }

    /// That all parameters were taken.
    ///
    /// # Errors
    /// One was not: there is none of that name.
    pub fn end(self) -> Result<(), UrlError> {
        match self.parameters.into_iter().next() {
            Some((name, _)) => Err(UrlError::Unknown(name)),
            None => Ok(()),
        }
    }
}
