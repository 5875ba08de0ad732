//! The recipe for other languages, as it stands in the guide, run by Python.

use std::path::Path;
use std::process::Command;

use onceward_core::Answer;
use onceward_testkit::server::Postgres;

use super::place::{Place, attempt, ran, replayed};

const GUIDE: &str = include_str!("../../../../../docs/guide/same-transaction.md");
const DUPLICATES: &str = include_str!("duplicates.py");
const LEVELS: [&str; 3] = ["READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE"];

/// Debian's Python, which has Debian's packages.
fn python() -> Command {
    let debian = Path::new("/usr/bin/python3");
    let mut python = Command::new(if debian.exists() { debian } else { Path::new("python3") });
    let found = python.args(["-c", "import psycopg"]).output();
    assert!(
        found.is_ok_and(|it| it.status.success()),
        "psycopg is missing: `apt-get install --yes python3-psycopg` installs it"
    );
    Command::new(python.get_program())
}

/// What so many callers of the recipe at the operation `a` were told.
async fn ask(place: &Place, isolation: &str, callers: &str) -> Vec<String> {
    let (_, rest) = GUIDE.split_once("```python\n").expect("the guide has the recipe");
    let (recipe, _) = rest.split_once("```").expect("it ends");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.py"), recipe).unwrap();
    std::fs::write(folder.path().join("duplicates.py"), DUPLICATES).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
    let it = attempt("a");
    let mut python = python();
    python.arg(folder.path().join("duplicates.py"));
    python.arg(format!("{}?options=-csearch_path%3D{}", Postgres::shared().url(&place.name), place.name));
    python.args([isolation, callers, &hex(it.record_id().as_bytes()), &hex(it.fingerprint.as_bytes())]);
    let said = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_of_the_recipe_one_has_an_effect_under_each_isolation() {
    for isolation in LEVELS {
        let place = Place::new().await;
        assert_eq!(ask(&place, isolation, "failing").await, ["LookupError"]);
        assert_eq!((place.effects().await, place.records().await), (0, 0), "nothing stays of what failed");

        let told = ask(&place, isolation, "16").await;
        let (mismatch, told) = told.split_last().unwrap();
        assert_eq!(mismatch, "Mismatch");
        let count = |what: &str| told.iter().filter(|it| it.starts_with(what)).count();
        assert_eq!(count("ran "), 1, "{told:?}");
        assert!(count("replayed ") >= 7 && count("Busy") <= 8, "who waits is not sent away: {told:?}");
        let id = place.number("SELECT id FROM SCHEMA.ledger").await.to_string();
        assert!(told.iter().all(|it| *it == "Busy" || it.ends_with(&format!(" {id}"))), "{told:?}");
        assert_eq!((place.effects().await, place.records().await), (1, 1), "{isolation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_and_python_replay_one_another() {
    let place = Place::new().await;
    let told = ask(&place, LEVELS[0], "1").await;
    let id = place.number("SELECT id FROM SCHEMA.ledger").await.to_string();
    assert_eq!(told[0], format!("ran {id}"));
    assert_eq!(replayed(place.owned(&attempt("a")).await), Answer::new("row", id));

    let place = Place::new().await;
    let answer = ran(place.owned(&attempt("a")).await);
    let answer = String::from_utf8(answer.bytes().unwrap().to_vec()).unwrap();
    assert_eq!(ask(&place, LEVELS[0], "1").await[0], format!("replayed {answer}"));
    assert_eq!(place.effects().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_does_not_hold_rust_up_and_takes_over_what_is_over() {
    let place = Place::new().await;
    let mut open = place.begin().await;
    let _first = ran(place.within(&mut open, &attempt("a")).await);
    // Half would wait for the transaction that stays open: one alone does not.
    assert_eq!(ask_alone(&place).await, "Busy");
    open.commit().await.unwrap();
    place.run("UPDATE SCHEMA.onceward_operations SET answer_until = 1, expires_at = 1").await;
    assert_eq!(ask_alone(&place).await, "Refused");
    place.run("UPDATE SCHEMA.onceward_operations SET gone_until = 1").await;
    assert!(ask_alone(&place).await.starts_with("ran "));
    assert_eq!((place.effects().await, place.records().await), (2, 1));
}

/// What a caller is told that does not wait.
async fn ask_alone(place: &Place) -> String {
    ask(place, LEVELS[0], "alone").await[0].clone()
}
