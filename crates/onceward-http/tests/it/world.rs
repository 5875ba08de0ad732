//! One application behind the layer, with a count of its effects, and a caller in front of it.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use onceward_core::store::browse::Filter;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Clock, Engine, EngineSettings, NoObserver, Record, Store};
use onceward_http::{Exchange, HttpPolicy, IdempotencyLayer, KeyRule, PathPattern, Route, Routes, Told};
use onceward_testkit::{FaultyStore, HandClock, SeededEntropy, eventually, within};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// A request as the application got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|it| it.to_str().unwrap())
    }
}

/// The layer around an application whose every call is an effect.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) clock: HandClock,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) engine: Engine,
    pub(crate) layer: IdempotencyLayer,
    pub(crate) app: Router,
    effects: Arc<Mutex<Vec<Seen>>>,
}

/// How long the worlds of these tests wait for an answer to be stored.
pub(crate) const STORE_PATIENCE: Duration = Duration::from_secs(20);

impl World {
    /// `handler` behind the layer, everything at its default.
    pub(crate) fn new<F, R>(handler: impl Fn(Seen) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = R> + Send,
        R: IntoResponse,
    {
        Self::under(HttpPolicy::default(), handler)
    }

    /// `handler` behind the layer under one policy.
    pub(crate) fn under<F, R>(
        policy: HttpPolicy,
        handler: impl Fn(Seen) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send,
        R: IntoResponse,
    {
        Self::routed(Routes::new(Vec::new(), policy), handler)
    }

    /// `handler` behind the layer with routes.
    pub(crate) fn routed<F, R>(
        routes: Routes,
        handler: impl Fn(Seen) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send,
        R: IntoResponse,
    {
        let clock = HandClock::new();
        let store = FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(clock.clone()))));
        Self::over(clock, Arc::new(store), routes, handler)
    }

    /// `handler` behind a layer of its own, over a store that others may use too: another process.
    pub(crate) fn over<F, R>(
        clock: HandClock,
        store: Arc<FaultyStore>,
        routes: Routes,
        handler: impl Fn(Seen) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send,
        R: IntoResponse,
    {
        let effects: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let note = Arc::clone(&effects);
        let noting = move |request: Request| {
            let (note, handler) = (Arc::clone(&note), handler.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|it| it.to_bytes()).unwrap_or_default();
                let seen = Seen { head, body };
                note.lock().unwrap().push(seen.clone());
                handler(seen).await
            }
        };
        let world = Self::around(clock, store, routes, Router::new().fallback(noting));
        Self { effects, ..world }
    }

    /// The layer around any router; its effects are not counted.
    pub(crate) fn around(clock: HandClock, store: Arc<FaultyStore>, routes: Routes, router: Router) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let seed = SEED.fetch_add(1, Ordering::Relaxed) << 32;
        let engine = Engine::with(
            Arc::clone(&store) as Arc<dyn Store>,
            EngineSettings::default(),
            Arc::new(clock.clone()) as Arc<dyn Clock>,
            Arc::new(SeededEntropy::new(seed)),
            Arc::new(NoObserver),
        );
        let layer = IdempotencyLayer::new(engine.clone(), routes);
        layer.set_store_patience(STORE_PATIENCE);
        let app = router.layer(layer.clone());
        Self { clock, store, engine, layer, app, effects: Arc::default() }
    }

    /// Sends a request and reads its answer to the end. The future owns what it needs: dropping it is a
    /// caller that leaves.
    pub(crate) fn send(&self, ask: Ask) -> impl Future<Output = Got> + Send + 'static + use<> {
        let app = self.app.clone();
        within(async move { Got::read(app.oneshot(ask.request()).await.unwrap()).await })
    }

    /// Like [`send`](Self::send), but on a task that goes on by itself.
    pub(crate) fn send_aside(&self, ask: Ask) -> Aside {
        let mut task = tokio::task::JoinSet::new();
        task.spawn(self.send(ask));
        Aside(task)
    }

    /// How many times the effect happened.
    pub(crate) fn effects(&self) -> usize {
        self.effects.lock().unwrap().len()
    }

    /// What the application got, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.effects.lock().unwrap().clone()
    }

    /// What the application got last.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("something was sent to the application")
    }

    /// Waits until the effect has happened `count` times.
    pub(crate) async fn until_effects(&self, count: usize) {
        eventually(async || self.effects() >= count).await;
    }

    /// Lets time pass in small steps until `done`, so that everybody who sleeps on it gets a turn.
    pub(crate) async fn pass_time_until(&self, mut done: impl FnMut() -> bool) {
        eventually(async || {
            self.clock.advance(Duration::from_millis(250));
            done()
        })
        .await;
    }

    /// Lets time pass until `sent` is answered.
    pub(crate) async fn pass_time_for(&self, mut sent: Aside) -> Got {
        let mut got = None;
        self.pass_time_until(|| {
            got = sent.is_answered();
            got.is_some()
        })
        .await;
        got.expect("it is answered")
    }

    /// Every record that operators can see.
    pub(crate) async fn records(&self) -> Vec<Arc<Record>> {
        self.engine.list(&Filter::default(), None, 1000).await.unwrap().records
    }
}

/// A request that runs aside.
#[derive(Debug)]
pub(crate) struct Aside(tokio::task::JoinSet<Got>);

impl Aside {
    /// Its answer.
    pub(crate) async fn got(mut self) -> Got {
        within(self.0.join_next()).await.expect("one task").unwrap()
    }

    /// Whether the answer is here.
    pub(crate) fn is_answered(&mut self) -> Option<Got> {
        self.0.try_join_next().map(Result::unwrap)
    }
}

/// A request to send.
#[derive(Debug)]
pub(crate) struct Ask {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Body,
}

/// A POST without a body, to the host `api.test`.
pub(crate) fn post(target: &str) -> Ask {
    ask(Method::POST, target)
}

pub(crate) fn ask(method: Method, target: &str) -> Ask {
    let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("api.test"))]);
    Ask { method, target: target.to_owned(), headers, body: Body::empty() }
}

/// A payment of 12 with this key.
pub(crate) fn pay(key: &str) -> Ask {
    post("/payments").key(key).body(r#"{"amount":12}"#)
}

/// What [`pay`] asks, but with another amount.
pub(crate) fn pay_other(key: &str) -> Ask {
    post("/payments").key(key).body(r#"{"amount":13}"#)
}

impl Ask {
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Adds a line.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    pub(crate) fn host(mut self, host: impl AsRef<[u8]>) -> Self {
        self.headers.remove(http::header::HOST);
        self.header("host", host)
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn request(self) -> Request {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target.parse().unwrap();
        *request.headers_mut() = self.headers;
        request
    }
}

/// An answer as the caller got it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) exchange: Option<Exchange>,
}

impl Got {
    pub(crate) async fn read(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let whole = within(body.collect()).await.expect("an answer comes whole");
        let trailers = whole.trailers().cloned();
        Self {
            status: head.status,
            headers: head.headers,
            body: whole.to_bytes(),
            trailers,
            exchange: head.extensions.get().cloned(),
        }
    }

    pub(crate) fn told(&self) -> Told {
        self.exchange.as_ref().expect("every answer says what it is").told
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().unwrap())
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect()
    }

    pub(crate) fn is_replay(&self) -> bool {
        let marked = self.header("idempotent-replayed") == Some("true");
        assert_eq!(marked, self.told() == Told::Replay, "the marker and the event agree");
        marked
    }

    /// The last segment of the problem's type; `None` when this is no problem body.
    pub(crate) fn problem(&self) -> Option<String> {
        let kind = self.header("content-type")?;
        (kind == "application/problem+json").then(|| {
            let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
            assert_eq!(json["status"], self.status.as_u16());
            json["type"].as_str().unwrap().rsplit(['/', ':']).next().unwrap().to_owned()
        })
    }

    /// Asserts that this is the problem `code` with `status`.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.problem().as_deref()), (status, Some(code)), "{self:?}");
    }

    /// Asserts that this is the application's own answer from a first run.
    #[track_caller]
    pub(crate) fn assert_first(&self, status: u16) {
        assert_eq!((self.status.as_u16(), self.told()), (status, Told::FirstRun), "{self:?}");
    }

    /// Asserts that this is a replay of the application's answer.
    #[track_caller]
    pub(crate) fn assert_replay(&self, status: u16) {
        assert_eq!((self.status.as_u16(), self.is_replay()), (status, true), "{self:?}");
    }
}

/// A handler that answers `201 paid`.
pub(crate) async fn paid(_: Seen) -> impl IntoResponse {
    (StatusCode::CREATED, "paid")
}

/// A handler that stands at a turnstile before it answers `201 paid`; [`let_through`] lets calls on.
pub(crate) fn paid_after(
    turnstile: &Arc<Semaphore>,
) -> impl Fn(Seen) -> futures_util::future::BoxFuture<'static, Response> + Clone + Send + Sync + 'static + use<>
{
    let turnstile = Arc::clone(turnstile);
    move |_| {
        let turnstile = Arc::clone(&turnstile);
        Box::pin(async move {
            turnstile.acquire().await.unwrap().forget();
            (StatusCode::CREATED, "paid").into_response()
        })
    }
}

/// A turnstile that nobody has passed yet.
pub(crate) fn turnstile() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// Lets one call through.
pub(crate) fn let_through(turnstile: &Semaphore) {
    turnstile.add_permits(1);
}

/// A policy that differs from the default in what `change` does.
pub(crate) fn policy(change: impl FnOnce(&mut HttpPolicy)) -> HttpPolicy {
    let mut policy = HttpPolicy::default();
    change(&mut policy);
    policy
}

/// A route under `policy`.
pub(crate) fn route(methods: &[Method], path: &str, policy: HttpPolicy) -> Route {
    Route {
        name: path.to_owned(),
        methods: methods.to_vec(),
        path: PathPattern::parse(path).unwrap(),
        policy,
        fresh_connection: false,
    }
}

/// A policy under which a key is required.
pub(crate) fn required() -> HttpPolicy {
    policy(|it| it.key = KeyRule::Required)
}
