//! The admin API of a running gateway, as verbs use it.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::call::{CallError, Reply, call};
use crate::exit::Exit;
use crate::say::say;

/// Where the admin API is, and the token for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Admin {
    /// The admin listener of the gateway
    #[arg(long = "admin", value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub(crate) url: String,
    /// The file with the token [default: the variable ONCEWARD_ADMIN_TOKEN, else onceward-data/admin.token]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who makes a change, for the audit of the gateway.
#[derive(Debug, clap::Args)]
pub(crate) struct Operator {
    /// Who you are, for the gateway's audit log [default: SUDO_USER, USER or LOGNAME, else
    /// the user id]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

/// The longest name that the admin API takes.
const OPERATOR_MAX: usize = 100;

/// Why there is no reply, and the exit code for it.
pub(crate) type Failed = (Exit, String);

impl Operator {
    /// The name to send. One that was not typed is left out where it cannot be sent.
    fn name(&self) -> Result<String, Failed> {
        if let Some(name) = &self.operator {
            let says =
                format!("--operator: 1 to {OPERATOR_MAX} visible ASCII characters, blanks only between them");
            return if is_name(name) { Ok(name.clone()) } else { Err((Exit::Usage, says)) };
        }
        #[expect(clippy::disallowed_methods, reason = "documented variables of these verbs")]
        let mut variables =
            ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|it| std::env::var(it).ok());
        let user_id = || format!("uid {}", rustix::process::getuid().as_raw());
        Ok(variables.find(|it| is_name(it)).unwrap_or_else(user_id))
    }
}

fn is_name(name: &str) -> bool {
    (1..=OPERATOR_MAX).contains(&name.len())
        && name.trim() == name
        && name.bytes().all(|it| (b' '..=b'~').contains(&it))
}

impl Admin {
    /// One call below `/api/v1`. The reply is one that went well; anything else is the reason and the exit code.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        operator: Option<&Operator>,
    ) -> Result<Reply, Failed> {
        let url = format!("{}/api/v1{path}", self.url.trim_end_matches('/'));
        let bearer = format!("Bearer {}", self.token()?);
        let mut headers = vec![("authorization", bearer.as_str())];
        let operator = operator.map(Operator::name).transpose()?;
        headers.extend(operator.as_deref().map(|it| ("onceward-operator", it)));
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(|it| it.to_string()).unwrap_or_default();
        let reply =
            call(method, &url, &headers, body, Duration::from_secs(30)).await.map_err(
                |error| match error {
                    CallError::Url(_) => {
                        (Exit::Usage, format!("--admin {}: write it as http://HOST:PORT", self.url))
                    }
                    CallError::Connect(..) | CallError::Broken(_) | CallError::TimeOut(_) => (
                        Exit::Admin,
                        format!("{error}; is the gateway running, and is --admin its admin address?"),
                    ),
                },
            )?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let problem = reply.json();
        let said =
            problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("no reason given").to_owned();
        let now = match (problem["record"]["revision"].as_str(), problem["record"]["state"].as_str()) {
            (Some(revision), Some(state)) => format!(" (it is {state} now, at revision {revision})"),
            _ => String::new(),
        };
        let exit = match reply.status.as_u16() {
            400 => Exit::Usage,
            404 | 409 => Exit::No,
            _ => Exit::Admin,
        };
        Err((exit, format!("the gateway answered {}: {said}{now}", reply.status)))
    }

    fn token(&self) -> Result<String, Failed> {
        let (token, place) = self.read_token()?;
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|it| it.is_ascii_graphic()) {
            return Err((Exit::Usage, format!("{place} holds no token: it is visible ASCII without blanks")));
        }
        Ok(token.to_owned())
    }

    /// The token as it stands there, and the name of the place.
    fn read_token(&self) -> Result<(String, String), Failed> {
        #[expect(clippy::disallowed_methods, reason = "a documented variable of this verb")]
        let variable = std::env::var("ONCEWARD_ADMIN_TOKEN").ok();
        if let (None, Some(token)) = (&self.token_file, variable) {
            return Ok((token, "ONCEWARD_ADMIN_TOKEN".into()));
        }
        let file = self.token_file.clone().unwrap_or_else(|| "onceward-data/admin.token".into());
        let place = file.display().to_string();
        match std::fs::read_to_string(&file) {
            Ok(token) => Ok((token, place)),
            Err(error) => {
                let hint = "name it with --token-file, or set ONCEWARD_ADMIN_TOKEN";
                Err((Exit::Usage, format!("cannot read the token from {place}: {error}; {hint}")))
            }
        }
    }

    /// Says what came back, as JSON or as `table` puts it.
    pub(crate) fn print(&self, reply: &Reply, table: fn(&Value) -> String) {
        let value = reply.json();
        if self.json {
            say(&format!("{value:#}\n"));
        } else {
            say(&table(&value));
        }
    }
}

/// Escapes everything that is not unreserved (RFC 3986, section 2.3).
pub(crate) fn escaped(value: &str) -> String {
    let keep = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    value.bytes().map(|it| if keep(it) { char::from(it).to_string() } else { format!("%{it:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_in_a_query() {
        assert_eq!(escaped("a b&c=/é"), "a%20b%26c%3D%2F%C3%A9");
    }

    #[test]
    fn a_name_that_cannot_be_sent_is_refused_when_it_was_typed() {
        let name = |it: &str| Operator { operator: Some(it.into()) }.name();
        assert_eq!(name("ada l."), Ok("ada l.".into()));
        for bad in ["", " ada", "ada ", "a\nb", "süß", &"x".repeat(101)] {
            assert_eq!(name(bad).unwrap_err().0, Exit::Usage, "{bad:?}");
        }
    }
}
