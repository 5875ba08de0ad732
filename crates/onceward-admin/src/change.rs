//! Changing: resolve a record, or remove what it stands for. Each attempt is audited.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::request::Parts;
use onceward_core::store::Loaded;
use onceward_core::{Operated, RecordId, Revision, Verdict};
use serde::Deserialize;

use crate::answer::AnswerBody;
use crate::audit::Audit;
use crate::body::{self, Whole};
use crate::operator::Operator;
use crate::params::{self, NamedRecord, Params, record_id};
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
    Number(Whole),
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
    id: NamedRecord,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut audit = Audit::new("resolve", &parts.extensions);
    let told = async {
        let id = named(id, &parts, &mut audit)?;
        Params::of(&parts.uri)?.finish()?;
        let body = body::json(&parts.headers, body, &**shared.admin.engine.clock()).await?;
        let wanted = wanted_resolution(&shared, id, &body, &mut audit)?;
        carry_out(&shared, &wanted, &mut audit).await
    }
    .await;
    end(audit, told)
}

/// `DELETE /api/v1/records/{id}`
pub(crate) async fn remove(State(shared): State<Arc<Shared>>, id: NamedRecord, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut audit = Audit::new("remove", &parts.extensions);
    let told = async {
        let id = named(id, &parts, &mut audit)?;
        let wanted = wanted_removal(id, &parts.uri, &mut audit)?;
        carry_out(&shared, &wanted, &mut audit).await
    }
    .await;
    end(audit, told)
}

/// The record that is to change, and who asks, for the audit.
fn named(id: NamedRecord, parts: &Parts, audit: &mut Audit) -> Result<RecordId, Problem> {
    let id = record_id(id);
    // Both are told in the audit, also where the other is wrong.
    audit.record = id.as_ref().ok().copied();
    audit.operator = Operator::of(&parts.headers)?;
    id
}

fn end(audit: Audit, told: Result<Response, Problem>) -> Response {
    audit.write(told.as_ref().map_or_else(Problem::code, |_| "done"));
    told.unwrap_or_else(IntoResponse::into_response)
}

fn wanted_resolution(
    shared: &Shared,
    id: RecordId,
    body: &[u8],
    audit: &mut Audit,
) -> Result<Wanted, Problem> {
    let asked: Resolve = serde_json::from_slice(body)
        .map_err(|it| Problem::Invalid(format!("the body cannot be read: {it}")))?;
    let seen = match asked.revision {
        RevisionText::Number(it) => params::revision(&it.0.to_string()),
        RevisionText::Text(it) => params::revision(&it),
    };
    let seen = seen.ok_or_else(|| Problem::Invalid(format!("`revision` must be {}", params::REVISION)))?;
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
            let answer = answer.parse().map_err(Problem::Invalid)?;
            audit.answer_digest = Some(answer.digest());
            Verdict::Answer(shared.admin.answers.write(answer).map_err(Problem::Invalid)?)
        }
    };
    Ok(Wanted { id, seen, verdict, forced: audit.forced.is_some() })
}

fn wanted_removal(id: RecordId, uri: &Uri, audit: &mut Audit) -> Result<Wanted, Problem> {
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
        Operated::Carries => Err(Problem::Carries),
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
