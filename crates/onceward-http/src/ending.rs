//! How an operation ended, what is written about it, and what its caller is told, in that order.

use std::borrow::Cow;
use std::pin::pin;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use onceward_core::mutant::{self, Mutant};
use onceward_core::{Answer, Permit, RecordId};
use tokio::sync::oneshot;
use tower_service::Service;

use crate::answer::{Read, StoredAnswer, fit_length, strip_first_run};
use crate::body::{Body, BoxError};
use crate::capture::{Captured, capture};
use crate::crowd::Place;
use crate::exchange::{Exchange, Told};
use crate::hop::strip_hop_by_hop;
use crate::operation::{Door, content_length};
use crate::outcome::{Outcome, Reason};
use crate::policy::{HttpPolicy, Oversize};
use crate::problem::{Ours, Problem};
use crate::service::{call, tell};

/// Writes what became of the operation, then tells the caller; never the other way round.
pub(crate) async fn end(door: &Door, permit: Permit, mut teller: Teller, outcome: Outcome, ended: Ended) {
    let id = permit.record_id();
    let patience = door.shared.engine.clock().sleep(door.shared.store_patience());
    let (finish, told, response) = match (outcome, ended) {
        (_, Ended::Failed(why)) => {
            (Finish::Abandon(why.into()), Told::Unknown, Problem::OutcomeUnresolved.response())
        }
        (Outcome::Store, Ended::Whole(stored)) => {
            let answer = stored.to_answer();
            if mutant::is(Mutant::ToldBeforeStored) {
                teller.tell_early(stored.clone().first(), Told::FirstRun);
            }
            (Finish::Complete(answer), Told::FirstRun, stored.first())
        }
        (Outcome::Store, Ended::Streams(response)) => {
            let response = match door.route.policy.oversize {
                Oversize::Pass => response,
                Oversize::Refuse => Problem::AnswerTooLarge.response(),
            };
            (Finish::Complete(StoredAnswer::not_kept()), Told::Oversize, response)
        }
        (Outcome::Release, ended) => (Finish::Release, Told::Released, ended.first()),
        (Outcome::Unknown, ended) => (Finish::Abandon(ended.why_unknown()), Told::Unknown, ended.first()),
    };
    let mut finish = pin!(finish.write(permit));
    let written = tokio::select! {
        biased;
        written = &mut finish => written,
        () = patience => {
            let told = match told {
                Told::FirstRun | Told::Oversize => Told::NotStored,
                _ => Told::Unknown,
            };
            let late = match told {
                Told::NotStored => Problem::AnswerNotStored.response(),
                _ => Problem::OutcomeUnresolved.response(),
            };
            teller.tell_early(late, told);
            // Storing goes on: a repeat gets the answer once the store is back.
            tokio::select! {
                biased;
                written = &mut finish => return settle(id, written),
                () = door.shared.abort.cancelled() => return,
            }
        }
    };
    match written {
        Ok(None) => teller.tell(response, told),
        Ok(Some(stands)) => match StoredAnswer::read(&stands) {
            Read::Whole(stored) => teller.tell(stored.first(), told),
            Read::NotKept => teller.tell(Problem::AnswerNotKept.response(), Told::NotKept),
            Read::Unreadable => teller.tell(Problem::OutcomeUnresolved.response(), Told::Unknown),
        },
        Err(error) => {
            teller.tell(Problem::OutcomeUnresolved.response(), Told::Unknown);
            settle(id, Err::<(), _>(error));
        }
    }
}

/// What is written about an operation that has ended.
enum Finish {
    Complete(Answer),
    Release,
    Abandon(Cow<'static, str>),
}

impl Finish {
    /// Writes it. Gives back the answer that stands when it is not the one that was given.
    async fn write(self, permit: Permit) -> onceward_core::Result<Option<Answer>> {
        match self {
            Self::Complete(answer) => {
                let given = answer.clone();
                let stands = permit.complete(answer).await?;
                Ok((stands != given).then_some(stands))
            }
            Self::Release => permit.release().await.map(|()| None),
            Self::Abandon(why) => permit.abandon(&why).await.map(|()| None),
        }
    }
}

/// How an operation ended, before anything is written about it.
pub(crate) enum Ended {
    /// An answer came back whole.
    Whole(StoredAnswer),
    /// An answer is too long to keep, or streams.
    Streams(Response<Body>),
    /// No whole answer came back.
    Failed(&'static str),
}

impl Ended {
    pub(crate) fn outcome(&self, policy: &HttpPolicy) -> Outcome {
        let (status, headers) = match self {
            Self::Whole(it) => (it.status, &it.headers),
            Self::Streams(it) => (it.status(), it.headers()),
            Self::Failed(_) => return Outcome::Unknown,
        };
        let said = match self {
            Self::Whole(it) => it.said,
            Self::Streams(it) => it.extensions().get().copied(),
            Self::Failed(_) => None,
        };
        policy.outcome(status, headers.contains_key(RETRY_AFTER), said)
    }

    /// Why the outcome of this answer is unknown, for operators.
    fn why_unknown(&self) -> Cow<'static, str> {
        let (reason, status) = match self {
            Self::Whole(it) => (it.reason, it.status),
            Self::Streams(it) => (it.extensions().get().copied(), it.status()),
            Self::Failed(why) => return (*why).into(),
        };
        let of_status = || format!("the answer {} leaves the outcome open", status.as_u16()).into();
        reason.map_or_else(of_status, |Reason(why)| why.into())
    }

    pub(crate) fn first(self) -> Response<Body> {
        match self {
            Self::Whole(stored) => stored.first(),
            Self::Streams(response) => response,
            Self::Failed(_) => Problem::OutcomeUnresolved.response(),
        }
    }
}

pub(crate) async fn run_and_capture<S, ResB>(inner: S, request: Request<Body>, max_answer_bytes: u64) -> Ended
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let Ok(response) = call(inner, request).await else {
        return Ended::Failed("the service failed without an answer");
    };
    let (mut parts, body) = response.into_parts();
    let in_process = parts.extensions.get::<Outcome>().copied();
    let reason = parts.extensions.get::<Reason>().copied();
    let is_ours = parts.extensions.get::<Ours>().is_some();
    let said = strip_first_run(&mut parts.headers).or(in_process);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS || is_event_stream(&parts.headers) {
        parts.extensions.extend(said_extension(said));
        return Ended::Streams(Response::from_parts(parts, Body::stream(body)));
    }
    strip_hop_by_hop(&mut parts.headers);
    match capture(Box::pin(body), max_answer_bytes).await {
        Captured::Whole { body, .. } if !meets_length(parts.status, &parts.headers, &body) => {
            Ended::Failed("the answer's length is not the one it names")
        }
        Captured::Whole { body, trailers } => {
            let mut stored = StoredAnswer {
                status: parts.status,
                headers: parts.headers,
                trailers,
                body,
                said,
                reason,
                is_ours,
            };
            fit_length(&mut stored);
            Ended::Whole(stored)
        }
        Captured::TooLong(body) => {
            parts.extensions.extend(said_extension(said));
            Ended::Streams(Response::from_parts(parts, body))
        }
        Captured::Cut => Ended::Failed("the answer was cut off"),
    }
}

fn said_extension(said: Option<Outcome>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    if let Some(said) = said {
        extensions.insert(said);
    }
    extensions
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], |it| it.as_bytes());
    kind.get(..17).is_some_and(|it| it.eq_ignore_ascii_case(b"text/event-stream"))
}

/// Whether an answer has the length that it names. Without a body it may name the length of another's.
fn meets_length(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> bool {
    let has_body = status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
    !has_body || content_length(headers).is_none_or(|it| it == body.len() as u64)
}

/// Tells the caller once, if it is still there.
pub(crate) struct Teller {
    pub(crate) tx: Option<oneshot::Sender<Response<Body>>>,
    pub(crate) exchange: Exchange,
    /// The operation's place among those of its principal; it is given back before the caller hears, who may
    /// ask for the next one at once.
    pub(crate) place: Option<Place>,
}

impl Teller {
    pub(crate) fn tell(&mut self, response: Response<Body>, told: Told) {
        self.place = None;
        self.tell_early(response, told);
    }

    /// Tells the caller of an operation that goes on and stays in its place.
    fn tell_early(&mut self, response: Response<Body>, told: Told) {
        if let Some(tx) = self.tx.take() {
            // A caller that has left hears nothing; the record is what counts.
            let _ = tx.send(tell(response, Exchange { told, ..self.exchange.clone() }));
        }
    }
}

/// Notes what could not be written.
pub(crate) fn settle<T>(id: RecordId, written: onceward_core::Result<T>) {
    if let Err(error) = written {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(record = id.prefix(), error, "the end of an operation was not written");
    }
}
