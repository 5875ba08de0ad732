//! A gateway before several upstreams.

use std::fs;
use std::net::TcpListener;

use crate::client::pay;
use crate::process::{Gateway, Place, onceward};
use crate::upstream::Upstream;

fn start(place: &Place, upstream: &str) -> Gateway {
    fs::write(place.folder().join("gateway.toml"), format!("[upstream]\n{upstream}")).unwrap();
    let mut command = onceward(place.folder());
    command.args(["gateway", "--config", "gateway.toml", "--store", "embedded:records"]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    place.begin_command(&mut command).ready()
}

#[test]
fn the_start_names_every_upstream() {
    let all = [Upstream::start(), Upstream::start()];
    let place = Place::before(&all[0].url());
    let gateway = start(&place, &format!("urls = [{:?}, {:?}]\n", all[0].url(), all[1].url()));
    let line = gateway.process.until_says("the gateway is ready");
    let named = line["upstreams"].as_str().unwrap().split(' ').map(|it| it.trim_end_matches('/'));
    assert_eq!(named.collect::<Vec<_>>(), [all[0].url(), all[1].url()]);
    for key in ["a", "b"] {
        gateway.ask(&pay(key)).assert_first();
    }
    let reached = all.iter().filter(|it| ["a", "b"].iter().any(|key| !it.effects(key).is_empty()));
    assert_eq!(reached.count(), 2);
}

#[test]
fn an_ejection_is_logged_once() {
    // Nobody listens on the port: it was taken and given back.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let well = Upstream::start();
    let place = Place::before(&well.url());
    let settings = format!(
        "urls = [\"http://{gone}\", {:?}]\neject_after = 1\neject = \"1h\"\neject_max = \"1h\"\n",
        well.url()
    );
    let gateway = start(&place, &settings);
    for key in ["a", "b", "c"] {
        gateway.ask(&pay(key)).assert_first();
    }
    gateway.process.until_lines("onceward::access", 3);
    let mut lines = gateway.process.lines();
    lines.retain(|it| it["level"] == "WARN" && it["upstream"].is_string());
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0]["upstream"].as_str().unwrap().contains(&gone.to_string()), "{lines:#?}");
}
