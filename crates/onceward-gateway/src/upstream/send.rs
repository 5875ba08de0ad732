//! One request: to the upstream that should have it, and to the next one only when it provably was not
//! processed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use onceward_http::Body;
use tokio::time::Instant;

use super::balance::{self, Wish};
use super::body::{Held, ResponseBody};
use super::exchange::{Answered, Asked, Exchange, Missed};
use super::fault::{Failed, Fault, all_full};
use super::node::Node;
use super::observe::{UpstreamEvent, UpstreamOutcome};
use super::roster::{Turn, Verdict};
use super::set::Set;
use super::slot::Slot;
use super::{Refusal, Shared};
use crate::forward;
use crate::upgrade;

/// How the tries of one request ended.
#[expect(clippy::large_enum_variant, reason = "made and taken apart once a request; a box would cost more")]
enum Ended {
    Answered(Answered, Slot),
    Refused(Refusal),
    Failed(Fault),
    AllFull,
}

impl Shared {
    pub(super) fn exchange(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> {
        let set = self.set();
        // Before the future begins, so that it need not carry the request twice.
        let asked = Asked::new(request, set.settings.protocol);
        async move { Ok(self.answer(&set, asked).await) }
    }

    async fn answer(&self, set: &Set, asked: Asked) -> Response<Body> {
        let ended = self.tries(set, &asked).await;
        let Asked { pass_through, upgrade, .. } = asked;
        let ((response, over), slot) = match ended {
            Ended::Answered(answered, slot) => (answered, slot),
            Ended::Refused(refusal) => return refusal.response(),
            Ended::Failed(fault) => return fault.response(pass_through),
            Ended::AllFull => return all_full(pass_through),
        };
        let held = Held { _slot: slot, _over: over };
        match upgrade {
            Some(upgrade) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(response, upgrade, held)
            }
            // Nobody asked for another protocol, so nobody could speak it.
            _ if response.status() == StatusCode::SWITCHING_PROTOCOLS => Fault::Broken.response(pass_through),
            _ => incoming(response, set, pass_through, held),
        }
    }

    /// Each upstream at most once, until one may have processed the request.
    async fn tries(&self, set: &Set, asked: &Asked) -> Ended {
        let exchange = Exchange {
            asked,
            settings: &set.settings,
            names: &self.names,
            dial: &self.dial,
            progress: &asked.progress,
        };
        let mut failed = None;
        for (node, turn) in self.candidates(set, asked) {
            let Some(slot) = node.slots.take(set.settings.in_flight_max) else {
                self.observe(UpstreamEvent::Full { url: &node.target.label });
                continue;
            };
            if turn == Turn::Trial && !self.roster().begin_trial(node.id, Instant::now()) {
                continue;
            }
            let trying = Try { shared: self, node, turn, began: Instant::now(), over: false };
            match node.send(exchange).await {
                Ok(answered) => {
                    trying.ended(UpstreamOutcome::Answered(answered.0.status()), Verdict::Well);
                    return Ended::Answered(answered, slot);
                }
                Err(Missed::Refused(refusal)) => return Ended::Refused(refusal),
                Err(Missed::Failed(missed)) => {
                    trying.failed(missed, asked.progress.client_is_due());
                    let fault = missed.fault();
                    if fault != Fault::Unreachable || !asked.body.is_whole() {
                        return Ended::Failed(fault);
                    }
                    failed = Some(fault);
                }
            }
        }
        failed.map_or(Ended::AllFull, Ended::Failed)
    }

    fn candidates<'a>(&self, set: &'a Set, asked: &Asked) -> Vec<(&'a Arc<Node>, Turn)> {
        if let [only] = &*set.nodes {
            return vec![(only, self.roster().turn_of_only(only.id))];
        }
        let load: Vec<_> = set.nodes.iter().map(|it| (it.target.label.as_str(), it.slots.taken())).collect();
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let wish = Wish { balance: set.settings.balance, record: asked.record.as_ref(), turn };
        let wanted: Vec<_> = balance::order(wish, &load).into_iter().map(|it| set.nodes[it].id).collect();
        let candidates = self.roster().candidates(&wanted, Instant::now());
        let node = |id| set.nodes.iter().find(|it| it.id == id);
        candidates.into_iter().filter_map(|it| Some((node(it.id)?, it.turn))).collect()
    }

    fn switch(
        &self,
        mut response: Response<Incoming>,
        upgrade: upgrade::Upgrade,
        held: Held,
    ) -> Response<Body> {
        let upstream = hyper::upgrade::on(&mut response);
        let answer = upgrade::switched(response.headers(), &upgrade);
        let tunnel = upgrade::tunnel(upgrade, upstream, self.shutdown.clone());
        self.tracker.spawn(async move {
            tunnel.await;
            drop(held);
        });
        answer
    }
}

fn incoming(response: Response<Incoming>, set: &Set, pass_through: bool, held: Held) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    // The version is a matter of each connection; the server in front writes its own.
    parts.version = Version::HTTP_11;
    parts.headers = forward::response_headers(parts.headers, pass_through);
    let media_type = parts.headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let media_type = media_type.split(|it| *it == b';').next().unwrap_or_default();
    let is_events = media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream");
    // Events come when something happens, which may be never.
    let idle_max = (!is_events).then_some(set.settings.body_idle_timeout);
    Response::from_parts(parts, Body::stream(ResponseBody::new(body, idle_max, held)))
}

/// A try at one upstream. Dropped before it has ended, it says nothing about that upstream.
struct Try<'a> {
    shared: &'a Shared,
    node: &'a Node,
    turn: Turn,
    began: Instant,
    over: bool,
}

impl Try<'_> {
    fn failed(self, missed: Failed, by_client: bool) {
        let (outcome, verdict) = match missed {
            Failed::NotProcessed => (UpstreamOutcome::NotProcessed, Verdict::Neither),
            Failed::Unsent => (UpstreamOutcome::Failed(Fault::Unreachable), Verdict::Failed),
            Failed::Ended(fault) if by_client && fault != Fault::Unreachable => {
                (UpstreamOutcome::Failed(fault), Verdict::Neither)
            }
            Failed::Ended(fault) => (UpstreamOutcome::Failed(fault), Verdict::Failed),
        };
        self.ended(outcome, verdict);
    }

    fn ended(mut self, outcome: UpstreamOutcome, verdict: Verdict) {
        self.over = true;
        self.note(outcome, verdict);
    }

    fn note(&self, outcome: UpstreamOutcome, verdict: Verdict) {
        let changed = self.shared.roster().ended(self.node.id, self.turn, verdict, Instant::now());
        let url = self.node.target.label.as_str();
        let (elapsed, in_flight) = (self.began.elapsed(), self.node.slots.taken());
        self.shared.observe(UpstreamEvent::Ended { url, outcome, elapsed, in_flight });
        self.shared.tell(self.node, changed);
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.note(UpstreamOutcome::GivenUp, Verdict::Neither);
        }
    }
}
