//! Changing: resolve a record, or remove what it stands for. Each attempt is audited.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Extensions, StatusCode, Uri};
use onceward_core::store::Loaded;
use onceward_core::{Operated, RecordId, Revision, Verdict};
use serde::Deserialize;

use crate::answer::AnswerBody;
use crate::audit::Audit;
use crate::params::{self, Params, record_id};
use crate::problem::Problem;
use crate::router::{Shared, json_page};
use crate::view::View;

/// The body of a resolve request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    outcome: Outcome,
    revision: RevisionText,
    force: Option<String>,
    answer: Option<AnswerBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Rerun,
    Answer,
}

/// 64 bits do not fit into a number of JavaScript, so it may be a string.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`revision` must be the revision that was shown, a string or a whole number")]
enum RevisionText {
    Number(u64),
    Text(String),
}

/// What is to be done, checked.
struct Wanted {
    id: RecordId,
    seen: Revision,
    verdict: Verdict,
    forced: bool,
}

/// `POST /api/v1/records/{id}/resolve`
pub(crate) async fn resolve(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    uri: Uri,
    extensions: Extensions,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mut audit = Audit::new("resolve", &extensions);
    let told = match wanted_resolution(&shared, &id, &uri, body, &mut audit) {
        Ok(wanted) => carry_out(&shared, &wanted, &mut audit).await,
        Err(problem) => Err(problem),
    };
    end(audit, told)
}

/// `DELETE /api/v1/records/{id}`
pub(crate) async fn remove(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    uri: Uri,
    extensions: Extensions,
) -> Response {
    let mut audit = Audit::new("remove", &extensions);
    let told = match wanted_removal(&id, &uri, &mut audit) {
        Ok(wanted) => carry_out(&shared, &wanted, &mut audit).await,
        Err(problem) => Err(problem),
    };
    end(audit, told)
}

fn end(audit: Audit, told: Result<Response, Problem>) -> Response {
    audit.write(told.as_ref().map_or_else(Problem::code, |_| "done"));
    told.unwrap_or_else(IntoResponse::into_response)
}

fn wanted_resolution(
    shared: &Shared,
    id: &str,
    uri: &Uri,
    body: Result<Bytes, BytesRejection>,
    audit: &mut Audit,
) -> Result<Wanted, Problem> {
    let id = record_id(id)?;
    audit.record = Some(id);
    Params::of(uri)?.finish()?;
    let body = body.map_err(|it| match it.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::TooLarge,
        _ => Problem::Invalid("the body did not arrive whole".into()),
    })?;
    let asked: Resolve = serde_json::from_slice(&body)
        .map_err(|it| Problem::Invalid(format!("the body cannot be read: {it}")))?;
    let seen = match asked.revision {
        RevisionText::Number(it) => Revision(it),
        RevisionText::Text(it) => params::revision(&it)
            .ok_or_else(|| Problem::Invalid(format!("`revision` must be {}", params::REVISION)))?,
    };
    audit.revision_before = Some(seen);
    audit.forced = asked.force.as_deref().map(params::reason).transpose()?;
    let verdict = match (asked.outcome, asked.answer) {
        (Outcome::Rerun, None) => Verdict::Rerun,
        (Outcome::Rerun, Some(_)) => {
            return Err(Problem::Invalid("`answer` must be left out when the outcome is `rerun`".into()));
        }
        (Outcome::Answer, None) => {
            return Err(Problem::Invalid("`answer` must be given when the outcome is `answer`".into()));
        }
        (Outcome::Answer, Some(answer)) => {
            let answer = answer.parse().and_then(|it| shared.admin.answers.write(it));
            Verdict::Answer(answer.map_err(Problem::Invalid)?)
        }
    };
    Ok(Wanted { id, seen, verdict, forced: audit.forced.is_some() })
}

fn wanted_removal(id: &str, uri: &Uri, audit: &mut Audit) -> Result<Wanted, Problem> {
    let id = record_id(id)?;
    audit.record = Some(id);
    let mut asked = Params::of(uri)?;
    let seen = asked.parse("revision", params::REVISION, params::revision)?;
    audit.revision_before = seen;
    audit.forced = asked.take("force").as_deref().map(params::reason).transpose()?;
    asked.finish()?;
    let seen =
        seen.ok_or_else(|| Problem::Invalid(format!("`revision` must be given: {}", params::REVISION)))?;
    Ok(Wanted { id, seen, verdict: Verdict::Remove, forced: audit.forced.is_some() })
}

async fn carry_out(shared: &Shared, wanted: &Wanted, audit: &mut Audit) -> Result<Response, Problem> {
    let Wanted { id, seen, verdict, forced } = wanted;
    audit.verdict = Some(match verdict {
        Verdict::Rerun => "rerun",
        Verdict::Answer(_) => "answer",
        Verdict::Remove => "remove",
    });
    let engine = &shared.admin.engine;
    let operated = engine.verdict(*id, *seen, verdict, *forced).await;
    match operated.map_err(|it| Problem::of_change(&it))? {
        Operated::Done(record) => {
            audit.revision_after = Some(record.revision);
            // It was stamped by this very change, so this is the store's time.
            Ok(json_page(&View::of(&record, record.updated)))
        }
        Operated::NotFound => Err(Problem::NoSuchRecord),
        // The call came too late and nothing has changed: it may be repeated as it is.
        Operated::Changed(found) if found.revision == *seen => Err(Problem::StoreUnavailable),
        Operated::Changed(_) => Err(changed(shared, *id).await),
        Operated::LeaseAlive(left) => Err(Problem::LeaseAlive(left)),
        Operated::NothingToResolve => Err(Problem::NothingToResolve),
    }
}

/// Shows the record as it is now, at the store's time. Nothing was written.
async fn changed(shared: &Shared, id: RecordId) -> Problem {
    match shared.admin.engine.show(id).await {
        Ok(Loaded { record: Some(record), now }) => {
            Problem::Changed(serde_json::to_value(View::of(&record, now)).expect("a view is plain JSON"))
        }
        Ok(Loaded { record: None, .. }) => Problem::NoSuchRecord,
        Err(error) => Problem::of_look(&error),
    }
}
