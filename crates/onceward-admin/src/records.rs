//! Looking: a page of records, or one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use onceward_core::store::{Cursor, Filter, Loaded, Page};
use onceward_core::{Principal, RecordId, Status};
use serde_json::json;

use crate::params::{self, NamedRecord, Params, record_id};
use crate::problem::Problem;
use crate::router::{Shared, json_page};
use crate::view::{View, rfc_3339};

/// Records on a page unless `limit` says otherwise.
pub(crate) const LIMIT: usize = 100;
/// The most records on a page.
pub(crate) const LIMIT_MAX: usize = 1000;

/// `GET /api/v1/records`
pub(crate) async fn list(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, Problem> {
    let (filter, cursor, limit) = asked(&uri)?;
    let listed = shared.admin.engine.list(&filter, cursor, limit).await;
    let Page { records, next, unreadable, now } = listed.map_err(|it| Problem::of_look(&it))?;
    Ok(json_page(&json!({
        "records": records.iter().map(|it| View::of(it, now)).collect::<Vec<_>>(),
        "next": next.map(|it| it.0.to_string()),
        "unreadable": unreadable.iter().map(RecordId::to_string).collect::<Vec<_>>(),
        "now": rfc_3339(now),
    })))
}

/// `GET /api/v1/records/{id}`
pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    id: NamedRecord,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = record_id(id)?;
    Params::of(&uri)?.finish()?;
    let loaded = shared.admin.engine.show(id).await.map_err(|it| Problem::of_look(&it))?;
    let Loaded { record: Some(record), now } = loaded else { return Err(Problem::NoSuchRecord) };
    Ok(json_page(&View::of(&record, now)))
}

fn asked(uri: &Uri) -> Result<(Filter, Option<Cursor>, usize), Problem> {
    let mut params = Params::of(uri)?;
    let filter = Filter {
        principal: params.parse(
            "principal",
            "32 hexadecimal digits or `anonymous`, as a listing shows it",
            Principal::parse,
        )?,
        kind: params.take("method"),
        path: params.take("path"),
        key: params.take("key"),
        status: params
            .parse("state", &states(), |it| Status::ALL.into_iter().find(|status| status.as_str() == it))?,
        older_than: params.parse("older_than", params::DURATION, params::duration)?,
    };
    let limit = params
        .parse("limit", "1 to 1000", |it| params::count(it).filter(|it| (1..=LIMIT_MAX).contains(it)))?;
    let cursor =
        params.parse("cursor", "the `next` of the page before", |it| RecordId::parse(it).map(Cursor))?;
    params.finish()?;
    Ok((filter, cursor, limit.unwrap_or(LIMIT)))
}

fn states() -> String {
    format!("one of {}", Status::ALL.map(Status::as_str).join(", "))
}
