//! Callers: they ask, lose patience, leave, ask again, and misuse a key now and then.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use turmoil::net::TcpStream;

use crate::network::PORT;
use crate::plan::{self, Ask, GATEWAYS, Way, millis};
use crate::world::{Reply, Violation, World};

/// How long a patient caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks all that this client has to ask. A client that was killed goes on with what is still to come.
pub(crate) async fn run(at: usize, world: World, turn: u64) -> turmoil::Result {
    let tasks = TaskTracker::new();
    for (lane, asks) in world.plan().clients[at].lanes.clone().into_iter().enumerate() {
        let name = plan::client(at);
        let rng = world.rng(&format!("{name}/{lane}"), turn);
        let h2 = world.plan().clients[at].h2;
        let caller = Caller::new(name, world.clone(), h2, rng, tasks.clone());
        tasks.spawn_local(caller.lane(asks, turn > 0));
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Asks about every intent until it has come to an end, once everything has healed.
pub(crate) async fn audit(world: World) -> turmoil::Result {
    while !world.healed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rng = world.rng("auditor", 0);
    let tasks = TaskTracker::new();
    let mut caller = Caller::new("auditor".into(), world.clone(), false, rng, tasks);
    let until = tokio::time::Instant::now() + world.plan().times.settle();
    for intent in 0..world.plan().intents.len() {
        let found = tokio::time::timeout_at(until, caller.settle(intent)).await;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let took = (world.plan().times.settle() - left).as_millis() / 1000;
        world.count(&format!("settled in {took} to {} s", took + 1));
        if found.is_err() {
            world.violated(Violation::Stuck, format!("key-{intent} has come to no end"));
        }
    }
    drop(caller);
    world.audited();
    Ok(())
}

/// A caller with a connection to each gateway.
struct Caller {
    name: String,
    world: World,
    h2: bool,
    rng: fastrand::Rng,
    tasks: TaskTracker,
    links: [Option<Link>; GATEWAYS],
}

/// An open connection; dropping it closes it, whatever is under way.
struct Link {
    sender: Sender,
    _driver: Rc<AbortOnDropHandle<()>>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Nothing came back, or not in time.
struct Lost;

/// A lane that is at work until it is dropped.
struct Busy(World);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.client_ends();
    }
}

impl Caller {
    fn new(name: String, world: World, h2: bool, rng: fastrand::Rng, tasks: TaskTracker) -> Self {
        Self { name, world, h2, rng, tasks, links: Default::default() }
    }

    async fn lane(mut self, asks: Vec<Ask>, only_to_come: bool) {
        self.world.client_begins();
        let _busy = Busy(self.world.clone());
        for ask in asks {
            let now = turmoil::sim_elapsed().unwrap_or_default();
            if only_to_come && ask.at < now {
                continue;
            }
            tokio::time::sleep(ask.at.saturating_sub(now)).await;
            self.ask(ask).await;
        }
    }

    /// One thing, with its retries.
    async fn ask(&mut self, ask: Ask) {
        let payload = payload(ask.intent, ask.misuse);
        for _ in 0..self.rng.usize(1..=6) {
            let gateway = self.rng.usize(0..GATEWAYS);
            let patience = match self.rng.u8(0..8) {
                0 if self.world.faults() => return self.leave_half_way(gateway, ask.intent, &payload).await,
                1 | 2 if self.world.faults() => millis(&mut self.rng, 5..=200),
                _ => PATIENCE,
            };
            let Ok(reply) = self.once(gateway, ask.intent, &payload, patience).await else {
                self.pause().await;
                continue;
            };
            self.world.told(&self.name, ask.intent, &payload, &reply);
            let again = self.rng.u8(0..4) == 0;
            if (reply.is_final() || matches!(reply.problem(), Some("key-reused" | "unresolved"))) && !again {
                return;
            }
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        let pause = millis(&mut self.rng, 5..=250);
        tokio::time::sleep(pause).await;
    }

    /// Asks until the intent has an answer, or is visibly unresolved.
    async fn settle(&mut self, intent: usize) {
        let way = self.world.plan().intents[intent].way;
        let (mut misuse, mut settled) = (false, 0);
        for gateway in (0..GATEWAYS).cycle() {
            let payload = payload(intent, misuse);
            if let Ok(reply) = self.once(gateway, intent, &payload, PATIENCE).await {
                self.world.told(&self.name, intent, &payload, &reply);
                match reply.problem() {
                    // The key belongs to the other payload.
                    Some("key-reused") => misuse = !misuse,
                    Some("unresolved") if way != Way::Rerun => {
                        self.world.count("settled: unresolved");
                        return;
                    }
                    _ if reply.is_final() => settled += 1,
                    _ => {}
                }
            }
            // Every gateway says the same.
            if settled == GATEWAYS {
                self.world.count("settled: answered");
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Sends the request once and waits for the answer.
    async fn once(
        &mut self,
        gateway: usize,
        intent: usize,
        payload: &str,
        patience: Duration,
    ) -> Result<Reply, Lost> {
        self.world.count("callers: requests");
        self.world.note(&self.name, || format!("asks gw{gateway} for key-{intent} {payload}, {patience:?}"));
        let asked = timeout(patience, self.exchange(gateway, intent, payload)).await;
        let reply = asked.unwrap_or(Err(Lost));
        if reply.is_err() {
            self.world.count("callers: no answer");
            self.world.note(&self.name, || format!("no answer from gw{gateway} for key-{intent}"));
            self.links[gateway] = None;
        }
        reply
    }

    async fn exchange(&mut self, gateway: usize, intent: usize, payload: &str) -> Result<Reply, Lost> {
        let mut link = match self.links[gateway].take() {
            Some(link) if link.sender.is_usable() => link,
            _ => self.connect(gateway).await?,
        };
        let request = self.request(intent, payload);
        let response = match &mut link.sender {
            Sender::Http1(it) => it.send_request(request).await,
            Sender::Http2(it) => it.send_request(request).await,
        };
        let reply = reply(response.map_err(|_| Lost)?).await?;
        self.links[gateway] = Some(link);
        Ok(reply)
    }

    fn request(&self, intent: usize, payload: &str) -> Request<Full<Bytes>> {
        let intent = &self.world.plan().intents[intent];
        let path = intent.way.path();
        let uri = if self.h2 { format!("http://shop{path}") } else { path.to_owned() };
        let mut request = Request::post(uri.parse::<Uri>().expect("a path of ours"))
            .header("content-type", "text/plain")
            .header("idempotency-key", &intent.key);
        if !self.h2 {
            request = request.header("host", "shop");
        }
        if !intent.token.is_empty() {
            request = request.header("authorization", intent.token);
        }
        request.body(Full::new(Bytes::from(payload.to_owned()))).expect("these headers are valid")
    }

    async fn connect(&self, gateway: usize) -> Result<Link, Lost> {
        let stream = TcpStream::connect((plan::gateway(gateway), PORT)).await.map_err(|_| Lost)?;
        let io = TokioIo::new(stream);
        let (sender, driver) = if self.h2 {
            let tasks = OnTasks(self.tasks.clone());
            let (sender, connection) = http2::handshake(tasks, io).await.map_err(|_| Lost)?;
            (Sender::Http2(sender), self.tasks.spawn_local(async move { drop(connection.await) }))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(|_| Lost)?;
            (Sender::Http1(sender), self.tasks.spawn_local(async move { drop(connection.await) }))
        };
        Ok(Link { sender, _driver: Rc::new(AbortOnDropHandle::new(driver)) })
    }

    /// Sends a part of a request and is gone.
    async fn leave_half_way(&mut self, gateway: usize, intent: usize, payload: &str) {
        self.world.count("callers: half a request");
        let intent = &self.world.plan().intents[intent];
        let text = format!(
            "POST {} HTTP/1.1\r\nhost: shop\r\nidempotency-key: {}\r\nauthorization: {}\r\ncontent-length: {}\r\n\r\n{payload}",
            intent.way.path(),
            intent.key,
            intent.token,
            payload.len(),
        );
        let part = self.rng.usize(0..text.len());
        let stay = millis(&mut self.rng, 0..=1500);
        let sending = async {
            let mut stream = TcpStream::connect((plan::gateway(gateway), PORT)).await?;
            stream.write_all(&text.as_bytes()[..part]).await?;
            tokio::time::sleep(stay).await;
            Ok::<_, std::io::Error>(stream)
        };
        drop(timeout(PATIENCE, sending).await);
    }
}

impl Sender {
    fn is_usable(&self) -> bool {
        match self {
            Self::Http1(it) => it.is_ready(),
            Self::Http2(it) => it.is_ready(),
        }
    }
}

fn payload(intent: usize, misuse: bool) -> String {
    if misuse { format!("other-{intent}") } else { format!("pay-{intent}") }
}

async fn reply(response: Response<Incoming>) -> Result<Reply, Lost> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    // What belongs to the connection and not to the answer, and what marks a replay.
    let outside = ["connection", "date", "idempotent-replayed"];
    let headers = parts.headers.iter().filter(|it| !outside.contains(&it.0.as_str()));
    let headers =
        headers.map(|(name, it)| (name.to_string(), String::from_utf8_lossy(it.as_bytes()).into_owned()));
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        replayed: parts.headers.contains_key("idempotent-replayed"),
    })
}

/// Runs the tasks of a connection on its host.
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
