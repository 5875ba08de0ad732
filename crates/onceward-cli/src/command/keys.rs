//! `onceward keys`: look at records and resolve them, through the admin API of a running gateway.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::call::{CallError, Reply, call};
use crate::exit::Exit;
use crate::say::say;

/// Look at the records of a running gateway, resolve and remove them
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List records
    List {
        #[command(flatten)]
        admin: Admin,
        /// Only in this state: running, unresolved, released, done, gone, vacant
        #[arg(long)]
        state: Option<String>,
        /// Only of this caller: the hash that a listing shows, or anonymous
        #[arg(long)]
        principal: Option<String>,
        /// Only with this method
        #[arg(long)]
        method: Option<String>,
        /// Only on this path
        #[arg(long)]
        path: Option<String>,
        /// Only with this key
        #[arg(long)]
        key: Option<String>,
        /// Only unchanged for at least so long, for example 10m
        #[arg(long, value_name = "AGE")]
        older_than: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Go on where an earlier page ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one record
    Show {
        #[command(flatten)]
        admin: Admin,
        /// The record id, 64 hexadecimal digits
        id: String,
    },
    /// Say what became of an unresolved operation
    ///
    /// Ask the API behind the gateway first: did it happen? Then name the revision that `show` told you;
    /// a record that changed meanwhile is left as it is.
    #[command(group = clap::ArgGroup::new("outcome").required(true).args(["rerun", "status"]))]
    Resolve {
        #[command(flatten)]
        admin: Admin,
        /// The record id
        id: String,
        /// The revision you looked at
        #[arg(long)]
        revision: String,
        /// It did not happen: free the key, so that the next request runs
        #[arg(long)]
        rerun: bool,
        /// It happened: replay an answer with this status
        #[arg(long, value_name = "STATUS")]
        status: Option<u16>,
        /// A header line of that answer, for example 'content-type: application/json'
        #[arg(long = "header", value_name = "NAME: VALUE", requires = "status")]
        headers: Vec<String>,
        /// The body of that answer; @FILE reads it from a file
        #[arg(long, requires = "status", default_value = "")]
        body: String,
        /// Overrule a holder that still runs, for this reason
        #[arg(long, value_name = "REASON")]
        force: Option<String>,
    },
    /// Forget a record, so that the next request with its key runs
    Remove {
        #[command(flatten)]
        admin: Admin,
        /// The record id
        id: String,
        /// The revision you looked at
        #[arg(long)]
        revision: String,
        /// Overrule a holder that still runs, for this reason
        #[arg(long, value_name = "REASON")]
        force: Option<String>,
    },
}

/// Where the admin API is, and the token for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Admin {
    /// The admin listener of the gateway
    #[arg(long = "admin", value_name = "URL", default_value = "http://127.0.0.1:8081")]
    url: String,
    /// The file with the token [default: the variable ONCEWARD_ADMIN_TOKEN, else onceward-data/admin.token]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(verb: Verb) -> ExitCode {
    match carry_out(verb).await {
        Ok(code) => code,
        Err((exit, reason)) => exit.report(&reason),
    }
}

type Failed = (Exit, String);

async fn carry_out(verb: Verb) -> Result<ExitCode, Failed> {
    match verb {
        Verb::List { admin, state, principal, method, path, key, older_than, limit, cursor } => {
            let mut query = vec![format!("limit={limit}")];
            for (name, value) in [
                ("state", state),
                ("principal", principal),
                ("method", method),
                ("path", path),
                ("key", key),
                ("older_than", older_than),
                ("cursor", cursor),
            ] {
                query.extend(value.map(|it| format!("{name}={}", escaped(&it))));
            }
            let reply = admin.ask(Method::GET, &format!("/records?{}", query.join("&")), None).await?;
            admin.print(&reply, list_table);
            Ok(Exit::Done.code())
        }
        Verb::Show { admin, id } => {
            let reply = admin.ask(Method::GET, &format!("/records/{}", escaped(&id)), None).await?;
            admin.print(&reply, show_table);
            Ok(Exit::Done.code())
        }
        Verb::Resolve { admin, id, revision, rerun, status, headers, body, force } => {
            let mut wanted =
                json!({ "revision": revision, "outcome": if rerun { "rerun" } else { "answer" } });
            if let Some(status) = status {
                let headers = headers.iter().map(|it| header(it)).collect::<Result<Vec<_>, _>>()?;
                wanted["answer"] = json!({ "status": status, "headers": headers, "body": text(&body)? });
            }
            if let Some(reason) = force {
                wanted["force"] = reason.into();
            }
            let path = format!("/records/{}/resolve", escaped(&id));
            let reply = admin.ask(Method::POST, &path, Some(wanted)).await?;
            admin.print(&reply, show_table);
            Ok(Exit::Done.code())
        }
        Verb::Remove { admin, id, revision, force } => {
            let mut path = format!("/records/{}?revision={}", escaped(&id), escaped(&revision));
            if let Some(reason) = force {
                path.push_str(&format!("&force={}", escaped(&reason)));
            }
            let reply = admin.ask(Method::DELETE, &path, None).await?;
            admin.print(&reply, show_table);
            Ok(Exit::Done.code())
        }
    }
}

impl Admin {
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Reply, Failed> {
        let url = format!("{}/api/v1{path}", self.url.trim_end_matches('/'));
        let bearer = format!("Bearer {}", self.token()?);
        let mut headers = vec![("authorization", bearer.as_str())];
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

    fn print(&self, reply: &Reply, table: fn(&Value) -> String) {
        let value = reply.json();
        if self.json {
            say(&format!("{value:#}\n"));
        } else {
            say(&table(&value));
        }
    }
}

fn header(line: &str) -> Result<[String; 2], Failed> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| (Exit::Usage, format!("--header `{line}`: write it as 'NAME: VALUE'")))?;
    Ok([name.trim().to_owned(), value.trim().to_owned()])
}

fn text(body: &str) -> Result<String, Failed> {
    match body.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| (Exit::Usage, format!("--body: cannot read {file}: {error}"))),
        None => Ok(body.to_owned()),
    }
}

/// Escapes everything that is not unreserved (RFC 3986, section 2.3).
fn escaped(value: &str) -> String {
    let keep = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    value.bytes().map(|it| if keep(it) { char::from(it).to_string() } else { format!("%{it:02X}") }).collect()
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list_table(page: &Value) -> String {
    let mut rows =
        vec![["STATE", "METHOD", "PATH", "KEY", "PRINCIPAL", "ATTEMPT", "UPDATED", "ID"].map(str::to_owned)];
    for it in page["records"].as_array().into_iter().flatten() {
        let fields = ["state", "method", "path", "key", "principal", "attempt", "updated", "id"];
        rows.push(fields.map(|name| word(&it[name])));
    }
    let mut out = String::new();
    let width = |column: usize| rows.iter().map(|it| it[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    if rows.len() == 1 {
        out.push_str("(none)\n");
    }
    if let Some(cursor) = page["next"].as_str() {
        out.push_str(&format!("more: --cursor {cursor}\n"));
    }
    out
}

fn show_table(record: &Value) -> String {
    let mut rows = Vec::new();
    for (name, value) in record.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                rows.extend(inner.iter().map(|(inner, value)| (format!("{name}.{inner}"), word(value))));
            }
            value => rows.push((name.clone(), word(value))),
        }
    }
    let width = rows.iter().map(|it| it.0.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_a_table_with_aligned_columns() {
        let page = json!({ "records": [
            { "state": "unresolved", "method": "POST", "path": "/payments", "key": "order-1", "principal": "anonymous",
              "attempt": 1, "updated": "2026-01-01T00:00:00Z", "id": "ab" },
        ], "next": "ff" });
        assert_eq!(
            list_table(&page),
            "STATE       METHOD  PATH       KEY      PRINCIPAL  ATTEMPT  UPDATED               ID\n\
             unresolved  POST    /payments  order-1  anonymous  1        2026-01-01T00:00:00Z  ab\n\
             more: --cursor ff\n"
        );
        assert!(list_table(&json!({ "records": [], "next": null })).ends_with("(none)\n"));
    }

    #[test]
    fn values_are_escaped_in_a_query() {
        assert_eq!(escaped("a b&c=/é"), "a%20b%26c%3D%2F%C3%A9");
    }
}
