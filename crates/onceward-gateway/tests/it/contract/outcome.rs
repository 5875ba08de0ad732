//! What an answer means for its key.

use super::Lines;
use super::world::*;

/// Answers with the status, `Retry-After` and `Onceward-Outcome` that the request asks for.
async fn as_asked(seen: Seen) -> Reply {
    let mut response = reply(seen.header("x-status").unwrap().parse().unwrap(), &[], "said")?;
    for (ask, line) in [("x-retry", "retry-after"), ("x-outcome", "onceward-outcome")] {
        if let Some(value) = seen.head.headers.get(ask) {
            response.headers_mut().insert(line, value.clone());
        }
    }
    Ok(response)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Replays,
    RunsAgain,
    IsUnresolved,
}

async fn check(toml: &str, cases: &[(&'static str, Lines, Then)]) {
    each(async |pair| {
        let world = World::start(pair, toml, as_asked).await;
        for (at, (status, lines, then)) in cases.iter().enumerate() {
            let asking = || pay(&format!("k{at}")).header("x-status", status).lines(lines);
            let (code, before) = (status.parse().unwrap(), world.effects());
            let first = world.send(asking()).await;
            first.assert_first(code);
            assert_eq!((&first.body[..], first.header("onceward-outcome")), (b"said".as_slice(), None));
            let again = world.send(asking()).await;
            let expected_effects = before + if *then == Then::RunsAgain { 2 } else { 1 };
            match then {
                Then::Replays => again.assert_replay(code),
                Then::RunsAgain => again.assert_first(code),
                Then::IsUnresolved => {
                    again.assert_problem(409, "unresolved");
                    assert_eq!(again.header("retry-after"), None);
                }
            }
            assert_eq!(again.header("onceward-outcome"), None);
            assert_eq!(world.effects(), expected_effects, "{status} {lines:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_stored_unless_its_status_says_otherwise() {
    let statuses = ["200", "202", "400", "404", "409", "410", "418", "422", "500", "501"];
    check("", &statuses.map(|it| (it, [].as_slice(), Then::Replays))).await;
}

#[tokio::test]
async fn rejections_before_anything_ran_free_the_key() {
    let statuses = ["401", "403", "407", "425", "429"];
    check("", &statuses.map(|it| (it, [].as_slice(), Then::RunsAgain))).await;
    check("", &[("503", &[("x-retry", "3")], Then::RunsAgain)]).await;
}

#[tokio::test]
async fn what_something_in_front_of_the_upstream_may_have_said_is_unknown() {
    let statuses = ["408", "502", "504", "503"];
    check("", &statuses.map(|it| (it, [].as_slice(), Then::IsUnresolved))).await;
}

#[tokio::test]
async fn the_upstream_overrules_the_lists_and_its_word_is_removed() {
    check(
        "",
        &[
            ("429", &[("x-outcome", "store")], Then::Replays),
            ("502", &[("x-outcome", "store")], Then::Replays),
            ("200", &[("x-outcome", "release")], Then::RunsAgain),
            ("504", &[("x-outcome", "release")], Then::RunsAgain),
            ("200", &[("x-outcome", "unknown")], Then::IsUnresolved),
            ("503", &[("x-outcome", "unknown"), ("x-retry", "1")], Then::IsUnresolved),
            ("200", &[("x-outcome", "Release")], Then::RunsAgain),
            // A misspelt word overrules, too: nobody knows what was meant.
            ("200", &[("x-outcome", "maybe")], Then::IsUnresolved),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_route_may_choose_its_statuses() {
    let lists = "[[route]]\npath = \"/payments\"\nrelease_on = [500]\nunknown_on = [418]\n";
    check(
        lists,
        &[
            ("500", &[], Then::RunsAgain),
            ("418", &[], Then::IsUnresolved),
            ("429", &[], Then::Replays),
            ("504", &[], Then::Replays),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_word_of_the_outcome_never_passes_through_either() {
    each(async |pair| {
        let world = World::start(pair, "", always(200, &[("onceward-outcome", "release")], b"")).await;
        for sent in [ask("GET", "/"), post("/no-key"), pay("k")] {
            assert_eq!(world.send(sent).await.header("onceward-outcome"), None);
        }
    })
    .await;
}
