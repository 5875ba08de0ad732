//! The OpenAPI document and the pages say the same. Every answer that any test of this crate gets is held
//! against it; the tests here make sure that nothing more stands in it.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Method;
use onceward_admin::{Finding, Findings, Level, Refusal, Reload, ReloadRefused, Reloaded};
use onceward_core::RecordId;
use onceward_testkit::{Fault, Op};
use serde_json::{Value, json};

use crate::bench::{Bench, Reply, TOKEN};
use crate::schema::mismatch;

const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// The documented path that this one is.
fn template<'a>(document: &'a Value, path: &str) -> Option<(&'a str, &'a Value)> {
    let same = |template: &str| {
        let (mut wanted, mut given) = (template.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == given => {}
                (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {}
                _ => return false,
            }
        }
    };
    let paths = document["paths"].as_object().unwrap();
    paths.iter().find(|it| same(it.0)).map(|it| (it.0.as_str(), it.1))
}

/// The methods that `Allow` must name.
fn allowed(page: &Value) -> BTreeSet<String> {
    let mut allowed: BTreeSet<_> =
        page.as_object().unwrap().keys().map(|it| it.to_ascii_uppercase()).collect();
    if allowed.contains("GET") {
        allowed.insert("HEAD".into());
    }
    allowed
}

/// Fails where the document does not know this answer. Hands back the operation, where there is one.
pub(crate) fn hold(document: &Value, method: &Method, uri: &str, reply: &Reply) -> Option<String> {
    let path = uri.split('?').next().unwrap();
    let said = format!("{method} {path} answered {}: {}", reply.status, reply.text);
    let status = reply.status.as_u16();
    let Some((template, page)) = template(document, path) else {
        assert!([401, 404].contains(&status), "not in the document: {said}");
        return None;
    };
    let read_as = if method == Method::HEAD { Method::GET } else { method.clone() };
    let Some(operation) = page.get(read_as.as_str().to_ascii_lowercase()) else {
        let open = page.as_object().unwrap().values().all(|it| it["security"] == json!([]));
        if status != 401 || open {
            assert_eq!(status, 405, "{template} has no {method} in the document: {said}");
            let allow = reply.headers["allow"].to_str().unwrap();
            assert_eq!(allow.split(',').map(str::to_owned).collect::<BTreeSet<_>>(), allowed(page));
        }
        return None;
    };
    let response = &operation["responses"][status.to_string()];
    assert!(response.is_object(), "a status that is not in the document: {said}");
    let kind = reply.headers["content-type"].to_str().unwrap();
    let content = &response["content"][kind];
    assert!(content.is_object(), "{kind} is not in the document: {said}");
    for name in response["headers"].as_object().into_iter().flat_map(|it| it.keys()) {
        assert!(reply.headers.contains_key(name), "no {name}: {said}");
    }
    if kind.ends_with("json") && method != Method::HEAD {
        let what = mismatch(document, &content["schema"], &reply.json());
        assert_eq!(what, None, "{said}");
    }
    Some(operation["operationId"].as_str().unwrap().to_owned())
}

/// What the document says may be answered: the operation, the status, and the code of the problem or nothing.
fn documented(document: &Value) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|it| it.as_object().unwrap().values())
    {
        let id = operation["operationId"].as_str().unwrap();
        for (status, response) in operation["responses"].as_object().unwrap() {
            let mut add = |code: &str| assert!(all.insert((id.to_owned(), status.clone(), code.to_owned())));
            for (kind, content) in response["content"].as_object().unwrap() {
                if kind != "application/problem+json" {
                    add("");
                    continue;
                }
                for uri in content["schema"]["properties"]["type"]["enum"].as_array().unwrap() {
                    add(uri.as_str().unwrap().strip_prefix("urn:onceward:error:").unwrap());
                }
            }
        }
    }
    all
}

/// Answers that were given, in the form of [`documented`].
struct Seen {
    all: BTreeSet<(String, String, String)>,
    document: Value,
}

impl Seen {
    fn add(&mut self, method: Method, uri: &str, reply: &Reply) {
        let id = hold(&self.document, &method, uri, reply).expect("the operation is in the document");
        let code = if reply.headers["content-type"] == "application/problem+json" {
            reply.problem()
        } else {
            String::new()
        };
        self.all.insert((id, reply.status.as_u16().to_string(), code));
    }

    async fn call(&mut self, bench: &Bench, method: Method, uri: &str, body: &str) {
        let reply = bench.call(method.clone(), uri, body).await;
        self.add(method, uri, &reply);
    }

    async fn get(&mut self, bench: &Bench, uri: &str) {
        self.call(bench, Method::GET, uri, "").await;
    }
}

#[tokio::test]
async fn whatever_the_document_says_may_be_answered_is_answered() {
    let bench = Bench::new();
    let mut seen = Seen { all: BTreeSet::new(), document: bench.document().await };
    let every = documented(&seen.document);
    looked_at(&mut seen, &bench).await;
    changed(&mut seen, &bench).await;
    ran(&mut seen).await;
    let mut left: BTreeSet<_> = every.difference(&seen.all).collect();
    // No fault of today's stores comes to this; it stands for the kinds of error that may be added.
    left.retain(|it| it.2 != "admin-unexpected");
    assert!(left.is_empty(), "in the document, but never answered: {left:?}");
    assert!(every.len() > 50, "{every:?}");
}

async fn looked_at(seen: &mut Seen, bench: &Bench) {
    let id = bench.done("looked-at").await;
    for uri in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        seen.get(bench, uri).await;
    }
    let draining = Bench::new();
    draining.draining.store(true, std::sync::atomic::Ordering::Release);
    seen.get(&draining, "/readyz").await;
    let (list, show) = ("/api/v1/records".to_owned(), format!("/api/v1/records/{id}"));
    for (uri, op) in [(&list, Some(Op::List)), (&show, Some(Op::Load))]
        .into_iter()
        .chain([(&"/api/v1/upstreams".to_owned(), None), (&"/api/v1/doctor".to_owned(), None)])
    {
        seen.get(bench, uri).await;
        seen.get(bench, &format!("{uri}?unknown=1")).await;
        let reply = bench.raw(Method::GET, uri, &[], "").await;
        seen.add(Method::GET, uri, &reply);
        let Some(op) = op else { continue };
        for fault in [Fault::Refused, Fault::Corrupt] {
            bench.store.cue(op, 1, fault);
            seen.get(bench, uri).await;
        }
    }
    seen.get(bench, &format!("/api/v1/records/{}", RecordId::from_bytes([9; 32]))).await;
}

async fn changed(seen: &mut Seen, bench: &Bench) {
    let rerun = |revision: u64| json!({ "outcome": "rerun", "revision": revision.to_string() }).to_string();
    let resolve = |id: RecordId| format!("/api/v1/records/{id}/resolve");
    let remove = |id: RecordId, revision: u64| format!("/api/v1/records/{id}?revision={revision}");
    let nobody = RecordId::from_bytes([9; 32]);
    let held = bench.running("held").await;
    let faults = [(Op::Load, Fault::Refused), (Op::Load, Fault::Corrupt), (Op::Replace, Fault::CallLost)];
    for (method, key) in [(Method::POST, "resolved"), (Method::DELETE, "removed")] {
        let id = bench.unresolved(key).await;
        let revision = bench.revision(id).await;
        let ask = |id: RecordId, revision: u64| match method {
            Method::POST => (resolve(id), rerun(revision)),
            _ => (remove(id, revision), String::new()),
        };
        let (uri, body) = ask(id, revision);
        let reply = bench.raw(method.clone(), &uri, &[], &body).await;
        seen.add(method.clone(), &uri, &reply);
        for (op, fault) in faults.clone() {
            bench.store.cue(op, 1, fault);
            seen.call(bench, method.clone(), &uri, &body).await;
        }
        let held_at = bench.revision(held.record_id()).await;
        for (id, revision) in [(nobody, 1), (id, 1), (held.record_id(), held_at), (id, revision)] {
            let (uri, body) = ask(id, revision);
            seen.call(bench, method.clone(), &uri, &body).await;
        }
        seen.call(bench, method.clone(), &format!("{uri}&x=1").replace("resolve&", "resolve?"), &body).await;
    }
    let permit = bench.running("carries").await;
    let id = permit.record_id();
    permit.complete_with(onceward_core::Answer::new("text", "paid"), "a mail".into()).await.unwrap();
    let uri = remove(id, bench.revision(id).await);
    seen.call(bench, Method::DELETE, &uri, "").await;
    let id = bench.done("done").await;
    let (uri, body) = (resolve(id), rerun(bench.revision(id).await));
    seen.call(bench, Method::POST, &uri, &body).await;
    seen.call(bench, Method::POST, &uri, &" ".repeat((16 << 20) + 1)).await;
    let bearer = format!("Bearer {TOKEN}");
    for lines in [vec![], vec![("content-type", "text/plain")]] {
        let lines = [vec![("authorization", bearer.as_str())], lines].concat();
        let reply = bench.raw(Method::POST, &uri, &lines, &body).await;
        assert_eq!((reply.status.as_u16(), reply.problem().as_str()), (415, "admin-media-type"));
        seen.add(Method::POST, &uri, &reply);
    }
    let reply = too_slow(bench, &uri).await;
    seen.add(Method::POST, &uri, &reply);
    drop(held);
}

/// The answer to a body that does not come.
async fn too_slow(bench: &Bench, uri: &str) -> Reply {
    let never = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let bearer = format!("Bearer {TOKEN}");
    let lines = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let time_passes = async {
        bench.clock.until_asleep(1).await;
        bench.advance(30);
    };
    let (reply, ()) = tokio::join!(bench.raw_body(Method::POST, uri, &lines, never), time_passes);
    assert_eq!((reply.status.as_u16(), reply.problem().as_str()), (408, "admin-request-too-slow"));
    reply
}

async fn ran(seen: &mut Seen) {
    let uri = "/api/v1/reload";
    let reloads = [
        Reload::new(|| async { Ok(Reloaded { changed: vec!["routes".into()], warnings: vec!["w".into()] }) }),
        Reload::none(),
        Reload::new(|| async {
            let whole = Refusal { setting: None, says: "line 7 is no TOML".into() };
            let one = Refusal { setting: Some("listen".into()), says: "needs a restart".into() };
            Err(ReloadRefused::Refused(vec![whole, one]))
        }),
    ];
    for reload in reloads {
        let bench = Bench::with(|it| it.reload = reload);
        seen.call(&bench, Method::POST, uri, "").await;
    }
    let bench = Bench::new();
    seen.call(&bench, Method::POST, uri, "{}").await;
    let reply = bench.raw(Method::POST, uri, &[], "").await;
    seen.add(Method::POST, uri, &reply);
    let reply = too_slow(&bench, uri).await;
    seen.add(Method::POST, uri, &reply);
}

#[tokio::test]
async fn every_path_knows_the_documented_methods_and_no_others() {
    let bench = Bench::new();
    let document = bench.document().await;
    for (path, page) in document["paths"].as_object().unwrap() {
        let uri = path.replace("{id}", &"0".repeat(64));
        for method in METHODS {
            // Held against the document as any other answer: 405 with what is allowed, or not 405 at all.
            let reply = bench.call(method.clone(), &uri, "").await;
            let known = allowed(page).contains(method.as_str());
            assert_eq!(reply.status.as_u16() == 405, !known, "{method} {path}: {}", reply.status);
        }
    }
}

#[tokio::test]
async fn every_page_knows_the_documented_parameters_and_no_others() {
    let bench = Bench::new();
    let document = bench.document().await;
    let mut checked = 0;
    for (path, page) in document["paths"].as_object().unwrap() {
        for (method, operation) in page.as_object().unwrap() {
            if operation["security"] == json!([]) {
                continue;
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let of = |place: &str| -> BTreeSet<String> {
                let names = parameters.iter().filter(|it| it["in"] == place);
                names.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
            };
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let uri = path.replace("{id}", &"0".repeat(64)) + "?no-such-parameter=1";
            let reply = bench.call(method.clone(), &uri, "").await;
            assert_eq!(reply.problem(), "admin-request-invalid", "{method} {path}");
            let detail = reply.json()["detail"].as_str().unwrap().to_owned();
            let known: BTreeSet<String> = match detail.split_once("; known are ") {
                Some((_, known)) => known.split('.').next().unwrap().split(", ").map(str::to_owned).collect(),
                None => BTreeSet::new(),
            };
            assert_eq!(known, of("query"), "{method} {path}: {detail}");
            let in_path: BTreeSet<String> = path
                .split('/')
                .filter_map(|it| it.strip_prefix('{')?.strip_suffix('}'))
                .map(str::to_owned)
                .collect();
            assert_eq!(in_path, of("path"), "{method} {path}");
            // Whoever changes something may say who they are.
            let named: BTreeSet<String> = match method {
                Method::GET => BTreeSet::new(),
                _ => [String::from("Onceward-Operator")].into(),
            };
            assert_eq!(of("header"), named, "{method} {path}");
            checked += 1;
        }
    }
    assert!(checked >= 7, "{checked}");
}

#[tokio::test]
async fn a_resolve_request_has_the_documented_members_and_no_others() {
    let bench = Bench::new();
    let document = bench.document().await;
    let id = bench.unresolved("k1").await;
    let members = |schema: &str, variants: &str| -> BTreeSet<String> {
        let all = document["components"]["schemas"][schema][variants].as_array().unwrap();
        all.iter().flat_map(|it| it["properties"].as_object().unwrap().keys().cloned()).collect()
    };
    let check = async |body: Value, expected: BTreeSet<String>| {
        let reply =
            bench.call(Method::POST, &format!("/api/v1/records/{id}/resolve"), &body.to_string()).await;
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        let list = detail.split("expected one of ").nth(1).unwrap().split(" at line").next().unwrap();
        let known: BTreeSet<_> = list.split(", ").map(|it| it.trim_matches('`').to_owned()).collect();
        assert_eq!(known, expected, "{detail}");
    };
    check(json!({ "no-such-member": 1 }), members("Resolve", "oneOf")).await;
    let answer = json!({ "outcome": "answer", "revision": "1", "answer": { "no-such-member": 1 } });
    check(answer, members("GivenAnswer", "anyOf")).await;
}

#[tokio::test]
async fn every_problem_has_a_page_and_a_line_in_the_list() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let list = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut problems: BTreeSet<(String, String)> =
        documented(&Bench::new().document().await).into_iter().map(|it| (it.2, it.1)).collect();
    problems.retain(|it| !it.0.is_empty());
    // Those of what is in no document.
    problems.insert(("admin-not-found".into(), "404".into()));
    problems.insert(("admin-method-not-allowed".into(), "405".into()));
    assert!(problems.len() >= 17, "{problems:?}");
    for (code, status) in problems {
        let page = std::fs::read_to_string(folder.join(&code).with_extension("md")).unwrap_or_default();
        assert!(page.contains(&format!("**{status}**")), "docs/errors/{code}.md must say **{status}**");
        assert!(list.contains(&format!("| [{code}]({code}.md) | {status} |")), "{code} is not in the list");
    }
}

#[test]
fn what_the_command_reads_is_what_the_pages_write() {
    let found = Findings {
        findings: vec![Finding {
            level: Level::Warning,
            check: "retention-vs-retries".into(),
            setting: Some("policy.retention".into()),
            says: "Too short.".into(),
            remedy: None,
        }],
    };
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(
        text,
        "{\"findings\":[{\"level\":\"warning\",\"check\":\"retention-vs-retries\",\
         \"setting\":\"policy.retention\",\"says\":\"Too short.\",\"remedy\":null}]}"
    );
    assert_eq!(serde_json::from_str::<Findings>(&text).unwrap(), found);
    assert_eq!(found.worst(), Level::Warning);
    assert_eq!(Findings::default().worst(), Level::Ok);
    assert!(Level::Error > Level::Warning && Level::Warning > Level::Notice && Level::Notice > Level::Ok);
}
