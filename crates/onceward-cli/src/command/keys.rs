//! `onceward keys`: look at records and resolve them, through the admin API of a running gateway.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use crate::command::admin::{Admin, Failed, Operator, escaped};
use crate::exit::Exit;

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
        #[command(flatten)]
        operator: Operator,
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
        #[command(flatten)]
        operator: Operator,
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

pub(crate) async fn run(verb: Verb) -> ExitCode {
    match carry_out(verb).await {
        Ok(code) => code,
        Err((exit, reason)) => exit.report(&reason),
    }
}

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
            let reply = admin.ask(Method::GET, &format!("/records?{}", query.join("&")), None, None).await?;
            admin.print(&reply, list_table);
            Ok(Exit::Done.code())
        }
        Verb::Show { admin, id } => {
            let reply = admin.ask(Method::GET, &format!("/records/{}", escaped(&id)), None, None).await?;
            admin.print(&reply, show_table);
            Ok(Exit::Done.code())
        }
        Verb::Resolve { admin, operator, id, revision, rerun, status, headers, body, force } => {
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
            let reply = admin.ask(Method::POST, &path, Some(wanted), Some(&operator)).await?;
            admin.print(&reply, show_table);
            Ok(Exit::Done.code())
        }
        Verb::Remove { admin, operator, id, revision, force } => {
            let mut path = format!("/records/{}?revision={}", escaped(&id), escaped(&revision));
            if let Some(reason) = force {
                path.push_str(&format!("&force={}", escaped(&reason)));
            }
            let reply = admin.ask(Method::DELETE, &path, None, Some(&operator)).await?;
            admin.print(&reply, show_table);
            Ok(Exit::Done.code())
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
}
