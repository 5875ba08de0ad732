//! Settings that change while the gateway runs.

use std::sync::{Arc, Mutex};

use super::world::*;

const UPSTREAM: &str = "upstream.urls = [\"{url}\"]\n";

/// A gateway that reads `text` again, and the place of that text.
async fn world(text: &str) -> (World, Arc<Mutex<String>>) {
    let file = Arc::new(Mutex::new(text.to_owned()));
    (World::reloadable(Origin::start(paid).await, &file).await, file)
}

fn write(file: &Mutex<String>, text: &str) {
    text.clone_into(&mut file.lock().unwrap());
}

/// When the record of the only operation stops to give its answer.
async fn answer_until(world: &World) -> serde_json::Value {
    let look = ask("GET", "/api/v1/records").header("authorization", format!("Bearer {TOKEN}"));
    let page = world.admin.send(look).await.json();
    assert!(page["records"][0]["answer_until"].is_string(), "{page}");
    page["records"][0]["answer_until"].clone()
}

#[tokio::test]
async fn a_changed_policy_holds_for_what_comes_next() {
    let (world, file) = world(UPSTREAM).await;
    world.send(post("/payments").body("1")).await.assert_first(201);
    write(&file, &format!("{UPSTREAM}[[route]]\npath = \"/payments\"\nkey = \"required\"\n"));
    let told = world.reload().await;
    assert_eq!((told.status.as_u16(), &told.json()["changed"]), (200, &serde_json::json!(["route"])));
    world.send(post("/payments").body("1")).await.assert_problem(400, "key-missing");
    assert_eq!(world.metric("onceward_reloads_total{result=\"done\"}").await, "1");
}

#[tokio::test]
async fn records_keep_the_retention_they_were_made_with() {
    let (world, file) = world(UPSTREAM).await;
    world.send(pay("k")).await.assert_first(201);
    let before = answer_until(&world).await;
    write(&file, &format!("{UPSTREAM}policy.retention = \"1s\"\npolicy.tombstone = \"0\"\n"));
    assert_eq!(world.reload().await.status, 200);
    world.send(pay("k")).await.assert_replay(201);
    assert_eq!(answer_until(&world).await, before);
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing_and_every_mistake_is_named() {
    let (world, file) = world(&format!("{UPSTREAM}policy.key = \"required\"\n")).await;
    write(&file, &format!("{UPSTREAM}policy.lease = \"soon\"\npolicy.keys = 1\n"));
    let told = world.reload().await;
    told.assert_problem(422, "reload-refused");
    let text = String::from_utf8(told.body.to_vec()).unwrap();
    for named in ["policy.lease", "policy.keys", "nearest valid key: policy.key"] {
        assert!(text.contains(named), "{named} is not in {text}");
    }
    world.send(post("/payments").body("1")).await.assert_problem(400, "key-missing");
    assert_eq!(world.metric("onceward_settings_stale").await, "1");
    write(&file, UPSTREAM);
    assert_eq!(world.reload().await.status, 200);
    assert_eq!(world.metric("onceward_settings_stale").await, "0");
}

#[tokio::test]
async fn what_is_read_at_the_start_only_is_refused_by_name_and_nothing_else_is_taken_up() {
    for (line, name) in [
        ("store = \"memory:?x=1\"", "store"),
        ("log = \"human\"", "log"),
        ("access_log = \"none\"", "access_log"),
        ("idle_timeout = \"3s\"", "idle_timeout"),
        ("admin.hide_keys = true", "admin.hide_keys"),
        ("limits.streams = 7", "limits.streams"),
        ("policy.principal = \"none\"", "principal"),
    ] {
        let (world, file) = world(UPSTREAM).await;
        write(
            &file,
            &format!("{line}\n{UPSTREAM}policy.key = \"required\"\n").replace("memory:?x=1", "memory:"),
        );
        let told = world.reload().await;
        told.assert_problem(422, "reload-refused");
        let told = told.json().to_string();
        assert!(told.contains(&format!("\"{name}\"")) && told.contains("needs a restart"), "{told}");
        world.send(post("/payments").body("1")).await.assert_first(201);
    }
}

#[tokio::test]
async fn another_upstream_gets_what_comes_next_and_what_runs_ends_where_it_is() {
    let gate = turnstile();
    let slow = Origin::start(paid_after(&gate)).await;
    let fast = Origin::start(paid).await;
    let file = Arc::new(Mutex::new(UPSTREAM.to_owned()));
    let world = World::reloadable(slow, &file).await;
    let running = world.send_aside(pay("slow"));
    until(|| world.effects() == 1).await;
    write(&file, &format!("upstream.urls = [\"http://{}\"]\n", fast.addr));
    assert_eq!(world.reload().await.status, 200);
    world.send(pay("fast")).await.assert_first(201);
    assert_eq!((fast.effects(), world.effects()), (1, 1));
    gate.add_permits(1);
    running.got().await.assert_first(201);
    world.send(pay("slow")).await.assert_replay(201);
    assert_eq!((fast.effects(), world.effects()), (1, 1));
}

#[tokio::test]
async fn an_upstream_that_cannot_be_used_changes_nothing() {
    let (world, file) = world(UPSTREAM).await;
    write(
        &file,
        "upstream.urls = [\"https://127.0.0.1:1\"]\nupstream.ca_file = \"/no/such/ca.pem\"\npolicy.key = \"required\"\n",
    );
    let told = world.reload().await;
    told.assert_problem(422, "reload-refused");
    assert!(told.json().to_string().contains("upstream.ca_file"), "{:?}", told.json());
    world.send(post("/payments").body("1")).await.assert_first(201);
}

#[tokio::test]
async fn a_gateway_that_cannot_read_its_settings_again_says_so() {
    let world = World::start(H1, "", paid).await;
    assert_eq!(world.reload().await.problem().as_deref(), Some("no-settings-file"));
}
