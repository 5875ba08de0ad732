//! The admin API as an OpenAPI document, made from the table of pages.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::pages::{PAGES, Page, Parameter};
use crate::problem::{Kind, kind};
use crate::router::{Shared, json_text};

pub(crate) mod schemas;

/// What the document says of the API as a whole.
const ABOUT: &str = "Health, metrics, and the records of one gateway. Pages below /api/v1 need the bearer \
    token, apart from this document. Refusals are problem bodies (RFC 9457). Unknown and doubled parameters \
    and unknown members are refused. A page that knows GET knows HEAD; any other method is answered with \
    405 and Allow, any other path with 404.";

/// `GET /api/v1/openapi.json`
pub(crate) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    json_text(shared.document.clone())
}

/// The document, for this version of the gateway.
pub(crate) fn document(version: &str) -> Value {
    let mut paths = Map::new();
    for page in PAGES {
        paths.entry(page.path).or_insert_with(|| json!({}))[page.method] = operation(page);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Onceward admin API",
            "version": version,
            "description": ABOUT,
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas::all(),
        },
    })
}

fn operation(page: &Page) -> Value {
    let mut it = json!({
        "operationId": page.id,
        "summary": page.summary,
        "description": page.says,
        "responses": responses(page),
    });
    if !page.parameters.is_empty() {
        it["parameters"] = page.parameters.iter().map(parameter).collect();
    }
    if let Some(body) = page.body {
        let content = json!({ "application/json": { "schema": schemas::reference(body) } });
        it["requestBody"] = json!({ "required": true, "content": content });
    }
    if !page.token {
        it["security"] = json!([]);
    }
    it
}

fn parameter(it: &Parameter) -> Value {
    json!({
        "name": it.name,
        "in": it.place,
        "required": it.required,
        "description": it.says,
        "schema": (it.schema)(),
    })
}

fn responses(page: &Page) -> Value {
    let mut responses = Map::new();
    for it in page.answers {
        let content = json!({ it.media_type: { "schema": (it.schema)() } });
        let response = json!({ "description": it.says, "content": content });
        responses.insert(it.status.to_string(), response);
    }
    let of_the_token = page.token.then_some(kind::UNAUTHORIZED);
    let kinds: Vec<Kind> = of_the_token.iter().chain(page.problems).copied().collect();
    for it in &kinds {
        let same: Vec<&Kind> = kinds.iter().filter(|other| other.status == it.status).collect();
        responses.insert(it.status.to_string(), refusal(it.status, &same));
    }
    responses.into()
}

/// All problems of one status.
fn refusal(status: u16, kinds: &[&Kind]) -> Value {
    let titles: Vec<&str> = kinds.iter().map(|it| it.title).collect();
    let types: Vec<String> = kinds.iter().map(|it| it.uri()).collect();
    let schema = json!({
        "allOf": [schemas::reference("Problem")],
        "properties": { "type": { "enum": types }, "status": { "const": status } },
    });
    let mut response = json!({
        "description": format!("{}.", titles.join(". ")),
        "content": { "application/problem+json": { "schema": schema } },
    });
    // Those that every answer of this status has.
    let header = match status {
        401 => Some(("WWW-Authenticate", "How to present the token.")),
        _ => None,
    };
    if let Some((name, says)) = header {
        response["headers"] = json!({
            name: { "description": says, "required": true, "schema": { "type": "string" } },
        });
    }
    response
}
