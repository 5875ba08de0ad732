//! The pages over an engine over a store that fails on cue, with time in the hand.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use onceward_admin::{
    AdminState, AnswerWriter, Doctor, MeteredStore, Metrics, Reload, Token, Upstreams, router,
};
use onceward_core::store::memory::MemoryStore;
use onceward_core::{
    Answer, Attempt, Begin, Engine, EngineSettings, InFlight, Key, Permit, Policy, Principal, RecordId,
    Scope, SystemEntropy,
};
use onceward_testkit::{FaultyStore, HandClock, within};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::contract::hold;

pub(crate) const TOKEN: &str = "0123456789abcdef-token";
pub(crate) const PEER: &str = "192.0.2.7:4711";

pub(crate) struct Bench {
    pub(crate) router: Router,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: HandClock,
    pub(crate) metrics: Metrics,
    pub(crate) draining: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|it| panic!("{it}: {}", self.text))
    }

    /// The code of a problem body, checked for its form.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        for member in ["title", "detail"] {
            assert!(json[member].as_str().is_some_and(|it| !it.is_empty()), "{member}: {json}");
        }
        let kind = json["type"].as_str().unwrap();
        kind.strip_prefix("urn:onceward:error:").unwrap().to_owned()
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut AdminState)) -> Self {
        let clock = HandClock::new();
        let metrics = Metrics::new(["/payments", "/v1/**"]);
        let memory = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let store = Arc::new(FaultyStore::new(memory));
        let metered =
            Arc::new(MeteredStore::new(Arc::clone(&store) as _, Arc::new(clock.clone()), metrics.clone()));
        let engine = Engine::with(
            metered,
            EngineSettings::default(),
            Arc::new(clock.clone()),
            Arc::new(SystemEntropy),
            Arc::new(metrics.clone()),
        );
        let draining = Arc::new(AtomicBool::new(false));
        let mut state = AdminState {
            engine: engine.clone(),
            metrics: metrics.clone(),
            token: Token::parse(TOKEN).unwrap(),
            draining: Arc::clone(&draining),
            ready_requires_store: false,
            answers: AnswerWriter::new(|it| {
                if it.status == StatusCode::IM_A_TEAPOT {
                    return Err("no teapots here".into());
                }
                let mut text = format!("{}\n", it.status.as_u16()).into_bytes();
                for (name, value) in &it.headers {
                    text.extend_from_slice(format!("{name}: {}\n", value.to_str().unwrap()).as_bytes());
                }
                text.extend_from_slice(&it.body);
                Ok(Answer::new("written", text))
            }),
            reload: Reload::none(),
            doctor: Doctor::none(),
            upstreams: Upstreams::none(),
        };
        change(&mut state);
        Self { router: router(state), engine, store, clock, metrics, draining }
    }

    /// A request with the token.
    pub(crate) async fn call(&self, method: Method, uri: &str, body: &str) -> Reply {
        let bearer = format!("Bearer {TOKEN}");
        let mut lines = vec![("authorization", bearer.as_str())];
        if !body.is_empty() {
            lines.push(("content-type", "application/json"));
        }
        self.raw(method, uri, &lines, body).await
    }

    pub(crate) async fn get(&self, uri: &str) -> Reply {
        self.call(Method::GET, uri, "").await
    }

    pub(crate) async fn raw(&self, method: Method, uri: &str, lines: &[(&str, &str)], body: &str) -> Reply {
        self.raw_body(method, uri, lines, Body::from(body.to_owned())).await
    }

    /// A request as it is. Its answer is held against the document.
    pub(crate) async fn raw_body(
        &self,
        method: Method,
        uri: &str,
        lines: &[(&str, &str)],
        body: Body,
    ) -> Reply {
        let mut request = Request::builder().method(method.clone()).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let reply = self.exchange(request.body(body).unwrap()).await;
        hold(&self.document().await, &method, uri, &reply);
        reply
    }

    /// The OpenAPI document.
    pub(crate) async fn document(&self) -> Value {
        let request = Request::builder().uri("/api/v1/openapi.json").body(Body::empty()).unwrap();
        self.exchange(request).await.json()
    }

    async fn exchange(&self, mut request: Request<Body>) -> Reply {
        request.extensions_mut().insert(ConnectInfo(PEER.parse::<std::net::SocketAddr>().unwrap()));
        let response = within(self.router.clone().oneshot(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = within(body.collect()).await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn attempt(&self, key: &str, path: &str) -> Attempt {
        Attempt {
            scope: Scope {
                principal: Principal::from_bytes([7; 16]),
                kind: "POST".into(),
                host: "shop.example".into(),
                path: path.into(),
            },
            key: Key::parse(key).unwrap(),
            fingerprint: self.engine.hasher().await.unwrap().fingerprint([b"12.00 EUR".as_slice()]),
            policy: Policy::default(),
            in_flight: InFlight::Reject,
        }
    }

    /// Claims `key` and gives the permit.
    pub(crate) async fn running(&self, key: &str) -> Permit {
        let attempt = self.attempt(key, "/payments").await;
        match self.engine.begin(&attempt).await.unwrap() {
            Begin::Run(permit) => permit,
            other => panic!("{key} is not free: {other:?}"),
        }
    }

    pub(crate) async fn done(&self, key: &str) -> RecordId {
        let permit = self.running(key).await;
        let id = permit.record_id();
        permit.complete(Answer::new("text", "paid, secret receipt")).await.unwrap();
        id
    }

    pub(crate) async fn unresolved(&self, key: &str) -> RecordId {
        let permit = self.running(key).await;
        let id = permit.record_id();
        permit.abandon("the upstream hung up").await.unwrap();
        id
    }

    pub(crate) async fn revision(&self, id: RecordId) -> u64 {
        self.engine.show(id).await.unwrap().record.unwrap().revision.0
    }

    /// What another attempt with `key` is told now.
    pub(crate) async fn begins(&self, key: &str) -> Begin {
        self.engine.begin(&self.attempt(key, "/payments").await).await.unwrap()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}
