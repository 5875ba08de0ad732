//! The far side: a service that has effects, and misbehaves.
//!
//! Both upstreams are one service: they share the ledger. Its `rerun` part keeps its promise: it says its first
//! outcome of a key again, and refuses a fence below the highest it saw.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turmoil::net::{TcpListener, TcpStream};

use crate::network::PORT;
use crate::plan::{Way, millis};
use crate::world::{FirstOutcome, World};

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// What it does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Answer,
    AnswerLate,
    Decline,
    Fail,
    Busy,
    Ambiguous { effect: bool },
    Cut { effect: bool },
    Hang { effect: bool },
    EffectLater,
    Torn,
    AnswerAndClose,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Self::Answer => "answers",
            Self::AnswerLate => "answers late",
            Self::Decline => "declines",
            Self::Fail => "fails after the effect",
            Self::Busy => "is busy",
            Self::Ambiguous { effect: false } => "is ambiguous before the effect",
            Self::Ambiguous { effect: true } => "is ambiguous after the effect",
            Self::Cut { effect: false } => "cuts before the effect",
            Self::Cut { effect: true } => "cuts after the effect",
            Self::Hang { effect: false } => "hangs before the effect",
            Self::Hang { effect: true } => "hangs after the effect",
            Self::EffectLater => "has the effect when its caller is gone",
            Self::Torn => "tears its answer",
            Self::AnswerAndClose => "closes the idle connection",
        }
    }
}

/// One upstream host.
#[derive(Clone)]
struct Upstream {
    name: String,
    world: World,
    rng: Rc<RefCell<fastrand::Rng>>,
    tasks: TaskTracker,
}

/// Serves until the host dies.
pub(crate) async fn serve(name: String, world: World, turn: u64) -> turmoil::Result {
    let rng = Rc::new(RefCell::new(world.rng(&name, turn)));
    let upstream = Upstream { name, world, rng, tasks: TaskTracker::new() };
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let this = upstream.clone();
        upstream.tasks.spawn_local(async move { this.connection(stream).await });
    }
}

impl Upstream {
    async fn connection(self, stream: TcpStream) {
        let cut = CancellationToken::new();
        let (this, cutting) = (self.clone(), cut.clone());
        let service = service_fn(move |request| {
            let (this, cut) = (this.clone(), cutting.clone());
            async move { Ok::<_, Infallible>(this.request(request, cut).await) }
        });
        let io = TokioIo::new(stream);
        if self.world.plan().upstream_h2 {
            let streams = 1 + self.rng.borrow_mut().u32(0..8);
            let mut server = http2::Builder::new(OnTasks(self.tasks.clone()));
            server.max_concurrent_streams(streams);
            let connection = server.serve_connection(io, service);
            drop(cut.run_until_cancelled(connection).await);
        } else {
            let connection = http1::Builder::new().serve_connection(io, service);
            drop(cut.run_until_cancelled(connection).await);
        }
    }

    async fn request(self, request: Request<Incoming>, cut: CancellationToken) -> Answer {
        let text = |name: &str| {
            let value = request.headers().get(name).and_then(|it| it.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let key = text("idempotency-key");
        let fence = text("onceward-fence").parse().unwrap_or(0);
        let intent = self.world.plan().intents.iter().position(|it| it.key == key);
        let intent = intent.expect("only keys of the plan are sent");
        let before = self.world.arrived(intent, fence);
        let act = self.act();
        self.world.note(&self.name, || format!("got key-{intent}, fence {fence}: it {}", act.word()));
        let Ok(body) = request.into_body().collect().await else { return cut_off(&cut).await };
        let payload = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        self.world.count(&format!("upstream: {}", act.word()));
        if self.world.plan().intents[intent].way == Way::Rerun {
            if fence < before.fence_max {
                self.world.count("upstream: refuses an old fence");
                return answer(409, "fenced", fence, "{}".into());
            }
            if let Some(first) = before.first {
                self.world.count("upstream: says its first outcome again");
                return answer(first.status, "final", fence, first.body);
            }
        }
        let think = if self.rng.borrow_mut().bool() { 3 } else { 60 };
        let think = millis(&mut self.rng.borrow_mut(), 0..=think);
        tokio::time::sleep(think).await;
        self.behave(act, intent, fence, &payload, cut).await
    }

    async fn behave(
        self,
        act: Act,
        intent: usize,
        fence: u64,
        payload: &str,
        cut: CancellationToken,
    ) -> Answer {
        let times = &self.world.plan().times;
        match act {
            Act::Answer => self.done(intent, fence, payload, 201),
            Act::Fail => self.done(intent, fence, payload, 500),
            Act::AnswerLate => {
                let most = times.response.max(times.lease) * 2;
                let most = u64::try_from(most.as_millis()).expect("a few seconds");
                let late = millis(&mut self.rng.borrow_mut(), 0..=most);
                tokio::time::sleep(late).await;
                self.done(intent, fence, payload, 201)
            }
            Act::AnswerAndClose => {
                let soon = millis(&mut self.rng.borrow_mut(), 0..=80);
                self.tasks.spawn_local(async move {
                    tokio::time::sleep(soon).await;
                    cut.cancel();
                });
                self.done(intent, fence, payload, 201)
            }
            Act::Decline => {
                self.outcome(intent, fence, 402, format!(r#"{{"payload":"{payload}","declined":true}}"#))
            }
            Act::Busy => {
                let status = if self.rng.borrow_mut().bool() { 503 } else { 429 };
                let mut busy = answer(status, "released", fence, "{}".into());
                busy.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
                busy
            }
            Act::Ambiguous { effect } => {
                if effect {
                    drop(self.done(intent, fence, payload, 201));
                }
                let status = *self.rng.borrow_mut().choice(&[408, 502, 503, 504]).expect("there are four");
                answer(status, "unknown", fence, "{}".into())
            }
            Act::Cut { effect } => {
                if effect {
                    drop(self.done(intent, fence, payload, 201));
                }
                cut_off(&cut).await
            }
            Act::Hang { effect } => {
                if effect {
                    drop(self.done(intent, fence, payload, 201));
                }
                std::future::pending().await
            }
            Act::EffectLater => {
                let last = u64::try_from(LAST_EFFECT.as_millis()).expect("a few seconds");
                let later = millis(&mut self.rng.borrow_mut(), 0..=last);
                let (this, payload) = (self.clone(), payload.to_owned());
                self.tasks.spawn_local(async move {
                    tokio::time::sleep(later).await;
                    drop(this.done(intent, fence, &payload, 201));
                });
                std::future::pending().await
            }
            Act::Torn => {
                let (mut parts, body) = self.done(intent, fence, payload, 201).into_parts();
                let whole = body.collect().await.map(|it| it.to_bytes()).unwrap_or_default();
                parts.headers.insert("content-length", http::HeaderValue::from(whole.len()));
                let half = whole.slice(..whole.len() / 2);
                let torn =
                    stream::once(async move { Ok(Frame::data(half)) }).chain(stream::once(async move {
                        cut.cancel();
                        std::future::pending().await
                    }));
                Response::from_parts(parts, StreamBody::new(torn).boxed_unsync())
            }
        }
    }

    fn act(&self) -> Act {
        let mut rng = self.rng.borrow_mut();
        let trouble = if self.world.faults() { self.world.plan().upstream_trouble } else { 0 };
        if rng.u32(0..1000) >= trouble {
            return if rng.u8(0..6) == 0 { Act::Decline } else { Act::Answer };
        }
        let effect = rng.bool();
        match rng.u8(0..11) {
            0 | 1 => Act::AnswerLate,
            2 => Act::Fail,
            3 => Act::Busy,
            4 => Act::Ambiguous { effect },
            5 | 6 => Act::Cut { effect },
            7 => Act::Hang { effect },
            8 => Act::EffectLater,
            9 => Act::Torn,
            _ => Act::AnswerAndClose,
        }
    }

    /// The effect, and the answer that tells of it.
    fn done(&self, intent: usize, fence: u64, payload: &str, status: u16) -> Answer {
        if self.world.plan().intents[intent].way == Way::Rerun {
            // While this request was thought about, another may have been faster, or newer.
            let far = self.world.far_side(intent);
            if fence < far.fence_max {
                self.world.count("upstream: refuses an old fence");
                return answer(409, "fenced", fence, "{}".into());
            }
            if let Some(first) = far.first {
                return answer(first.status, "final", fence, first.body);
            }
        }
        let effect = self.world.effect(&self.name, intent, fence);
        let long = if self.rng.borrow_mut().u8(0..4) == 0 { 3000 } else { 0 };
        let padding = "long ".repeat(long / 5);
        let body = format!(r#"{{"payload":"{payload}","effect":{effect},"padding":"{padding}"}}"#);
        self.outcome(intent, fence, status, body)
    }

    fn outcome(&self, intent: usize, fence: u64, status: u16, body: String) -> Answer {
        if self.world.plan().intents[intent].way == Way::Rerun {
            let far = self.world.far_side(intent);
            if fence < far.fence_max {
                return answer(409, "fenced", fence, "{}".into());
            }
            self.world.first_outcome(intent, FirstOutcome { status, body: body.clone() });
            let first = self.world.far_side(intent).first.expect("it was just told");
            return answer(first.status, "final", fence, first.body);
        }
        answer(status, "final", fence, body)
    }
}

/// Ends the connection without another byte.
async fn cut_off(cut: &CancellationToken) -> Answer {
    cut.cancel();
    std::future::pending().await
}

fn answer(status: u16, outcome: &str, fence: u64, body: String) -> Answer {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let built = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("x-outcome", outcome)
        .header("x-fence", fence)
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .body(body);
    built.expect("these headers are valid")
}

/// Runs the streams of a connection on its host.
#[derive(Clone)]
struct OnTasks(TaskTracker);

impl<F: Future + 'static> hyper::rt::Executor<F> for OnTasks
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn_local(task);
    }
}

/// The longest that an effect may come after everything has healed.
pub(crate) const LAST_EFFECT: Duration = Duration::from_millis(1500);
