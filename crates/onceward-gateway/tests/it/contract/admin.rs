//! The second listener: health, metrics, records.

use onceward_testkit::Fault;

use super::origin::Cut;
use super::world::*;

fn look(path: &str) -> Ask {
    ask("GET", path).header("authorization", format!("Bearer {TOKEN}"))
}

#[tokio::test]
async fn readyz_says_how_the_store_is_and_healthz_that_the_process_lives() {
    let world = World::start(H1, "", paid).await;
    let ready = world.admin.send(ask("GET", "/readyz")).await;
    assert_eq!((ready.status.as_u16(), &ready.json()["store"]), (200, &"up".into()));
    world.store.down(Fault::Refused);
    within(async {
        while world.admin.send(ask("GET", "/readyz")).await.json()["store"] != "down" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let ready = world.admin.send(ask("GET", "/readyz")).await;
    assert_eq!((ready.status.as_u16(), &ready.json()["ready"]), (200, &true.into()));
    assert_eq!(world.admin.send(ask("GET", "/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_store_that_is_required_makes_the_gateway_unready() {
    let world =
        World::before(Origin::start(paid).await, H1, "", |it| it.admin.ready_requires_store = true).await;
    world.store.down(Fault::Refused);
    assert_eq!(world.admin.send(ask("GET", "/readyz")).await.status, 503);
}

#[tokio::test]
async fn metrics_count_what_callers_were_told() {
    let routes = "[[route]]\nname = \"pay\"\npath = \"/payments\"\n";
    each(async |pair| {
        let world = World::start(pair, routes, paid).await;
        world.send(pay("secret-key")).await.assert_first(201);
        world.send(pay("secret-key")).await.assert_replay(201);
        world.send(pay_other("secret-key")).await.assert_problem(422, "key-reused");
        world.send(ask("GET", "/secret-path")).await.assert_first(201);
        let page = world.admin.send(ask("GET", "/metrics")).await;
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        for (outcome, route) in
            [("first_run", "pay"), ("replay", "pay"), ("mismatch", "pay"), ("pass_through", "")]
        {
            let counted = page.lines().any(|it| {
                it.contains(&format!("outcome=\"{outcome}\""))
                    && it.contains(&format!("route=\"{route}"))
                    && it.ends_with(" 1")
            });
            assert!(counted, "{outcome} is not counted:\n{page}");
        }
        let upstream = page.lines().find(|it| it.starts_with("onceward_upstream_") && it.contains("_count{"));
        assert!(upstream.is_some_and(|it| it.contains("2xx") && it.ends_with(" 2")), "{page}");
        assert!(!page.contains("secret"), "{page}");
    })
    .await;
}

#[tokio::test]
async fn an_operator_sees_a_record_and_resolves_it() {
    each(async |pair| {
        let (sender, cuts) = std::sync::mpsc::channel::<()>();
        let cuts = std::sync::Mutex::new(cuts);
        let handler = move |_| {
            let cut = cuts.lock().unwrap().try_recv().is_ok();
            async move { if cut { Err(Cut) } else { reply(201, &[], "paid") } }
        };
        let world = World::start(pair, "", handler).await;
        sender.send(()).unwrap();
        world.send(pay("k")).await.assert_problem(504, "outcome-unresolved");
        assert_eq!(world.admin.send(ask("GET", "/api/v1/records")).await.status, 401);
        let page = world.admin.send(look("/api/v1/records")).await.json();
        let record = &page["records"][0];
        assert_eq!((&record["path"], &record["key"]), (&"/payments".into(), &"k".into()), "{page}");
        let (id, revision) = (record["id"].as_str().unwrap(), record["revision"].as_str().unwrap());
        let resolve = post(&format!("/api/v1/records/{id}/resolve"))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(format!(r#"{{"outcome":"rerun","revision":"{revision}"}}"#));
        let resolved = world.admin.send(resolve).await;
        assert_eq!(resolved.status, 200, "{resolved:?}");
        world.pay_until("k", |it| it.status == 201).await.assert_first(201);
        assert_eq!(world.effects(), 2);
    })
    .await;
}

#[tokio::test]
async fn the_api_is_never_reached_by_the_callers_listener() {
    let world = World::start(H1, "", paid).await;
    for path in ["/healthz", "/metrics", "/api/v1/records"] {
        world.send(look(path)).await.assert_first(201);
    }
    assert_eq!(world.effects(), 3);
}
