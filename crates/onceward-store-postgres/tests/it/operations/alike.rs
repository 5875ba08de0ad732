//! The statements for one row beside those for any number of rows: they keep and tell the same.

use std::time::Duration;

use onceward_core::{Answer, Attempt, Fingerprint, Policy, Principal, Scope, Unresolved};
use onceward_store_postgres::operations::Work;
use sqlx::AssertSqlSafe;

use super::place::{Place, attempt, ran};

/// What a put gives beside its id and its owner, up to the state; and behind the answer.
const LISTED: &str = "ARRAY[1], ARRAY[FINGERPRINT], ARRAY[decode(repeat('22', 16), 'hex')], ARRAY['k'], ARRAY['h'], ARRAY['/p'], \
     ARRAY['key']";
const POLICY: &str = "ARRAY[30000]::bigint[], ARRAY[600000]::bigint[], ARRAY[RETENTION]::bigint[], ARRAY[70000]::bigint[], \
     ARRAY['rerun'], ARRAY[decode('77', 'hex')], ARRAY[WAKE]::bigint[], ARRAY[NOT_AFTER]::bigint[]";
const NEVER: &str = "9223372036854775807";

/// Times of the server count from its now, and revisions from the first that it can give now: two calls never have the same.
const FROM_NOW: &str = "CREATE FUNCTION SCHEMA.from_now(told jsonb, now bigint) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(key || ' ' || CASE
        WHEN jsonb_typeof(value) <> 'number' THEN value::text
        WHEN value::text::numeric BETWEEN 1e12 AND 1e15 THEN 'now + ' || (value::text::bigint - now)
        WHEN value::text::numeric BETWEEN 1e15 AND 9e18 THEN 'now * 1024 + ' || (value::text::bigint - now * 1024)
        ELSE value::text END, ', ' ORDER BY key)
    FROM jsonb_each(told - 'id' - 'o_id' - 'o2') $$";

#[derive(Debug, Clone, Copy)]
struct Put {
    owner: &'static str,
    state: &'static str,
    retention: &'static str,
    wake: &'static str,
    not_after: &'static str,
    fingerprint: &'static str,
}

const OWNED: Put = Put {
    owner: "decode(repeat('33', 16), 'hex')",
    state: "running",
    retention: "60000",
    wake: "NULL",
    not_after: NEVER,
    fingerprint: "decode(repeat('11', 32), 'hex')",
};
const KEEP: Put = Put { owner: "NULL::bytea", ..OWNED };

impl Put {
    /// The 22 values, for the record that consists of this byte.
    fn values(&self, id: &str) -> String {
        let told = |is: &str, what: &str| if self.state == is { what.to_owned() } else { "NULL".to_owned() };
        let [reason, kind] = [told("abandoned", "'why'"), told("done", "'text'")];
        let answer = told("done", "decode('6162', 'hex')");
        format!(
            "ARRAY[decode(repeat('{id}', 32), 'hex')], ARRAY[{}], {LISTED}, ARRAY['{}'], ARRAY[{reason}]::text[], \
             ARRAY[{kind}]::text[], ARRAY[{answer}]::bytea[], ARRAY[NULL]::bigint[], {POLICY}",
            self.owner, self.state
        )
        .replace("FINGERPRINT", &format!("{}::bytea", self.fingerprint))
        .replace("RETENTION", self.retention)
        .replace("WAKE", self.wake)
        .replace("NOT_AFTER", self.not_after)
    }
}

/// What a function tells, and what the record is then.
async fn told(place: &Place, call: &str, id: &str) -> (Option<String>, Option<String>) {
    let text = |sql: String| {
        let sql = sqlx::AssertSqlSafe(sql.replace("SCHEMA", &place.name));
        async { sqlx::query_scalar::<_, String>(sql).fetch_optional(&place.root).await.unwrap() }
    };
    let told = format!(
        "SELECT SCHEMA.from_now(to_jsonb(t), coalesce(t.o_updated, t.o2)) FROM SCHEMA.onceward_operation_{call} t"
    );
    let row = "SELECT SCHEMA.from_now(to_jsonb(r), r.updated) FROM SCHEMA.onceward_operations r WHERE id = ";
    (text(told).await, text(format!("{row} decode(repeat('{id}', 32), 'hex')")).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_one_row_keeps_and_tells_what_a_claim_of_many_does() {
    let place = Place::new().await;
    place.run(FROM_NOW).await;
    // The second call finds what the first one kept.
    for _ in 0..2 {
        let [many, one] = [("claim_1", "aa"), ("claim_2", "bb")].map(|(name, id)| {
            let call = format!("{name}(0, NULL, false, {})", OWNED.values(id));
            (call, id)
        });
        let many = told(&place, &many.0, many.1).await;
        assert!(many.0.is_some() && many.1.is_some());
        assert_eq!(told(&place, &one.0, one.1).await, many);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_of_one_row_keeps_and_tells_what_a_swap_of_many_does() {
    let place = Place::new().await;
    place.run(FROM_NOW).await;
    let puts = [
        Put { state: "done", ..KEEP },
        Put { state: "done", retention: NEVER, ..KEEP },
        Put { state: "released", fingerprint: "NULL", ..KEEP },
        Put { state: "tombstone", ..KEEP },
        Put { state: "abandoned", wake: "5000", ..KEEP },
        Put { state: "done", not_after: "1", ..KEEP },
        KEEP,
        OWNED,
    ];
    for put in puts {
        for (seen, new_life) in [(7, false), (7, true), (8, false)] {
            let calls = [("1", "aa"), ("2", "bb")].map(|(number, id)| {
                let call = format!(
                    "replace_{number}({}, ARRAY[{seen}]::bigint[], ARRAY[{new_life}])",
                    put.values(id)
                );
                (call, id)
            });
            place.run("TRUNCATE SCHEMA.onceward_operations").await;
            for (_, id) in &calls {
                // A claim of long ago, whatever its clock was.
                let claim = format!(
                    "SELECT * FROM SCHEMA.onceward_operation_claim_1(0, NULL, false, {})",
                    OWNED.values(id)
                );
                place.run(&claim).await;
            }
            place
                .run(
                    "UPDATE SCHEMA.onceward_operations SET revision = 7, fence = 6, attempt = 5, created = 1000,
                        updated = 1001, run_until = 5000, lease_until = 4000",
                )
                .await;
            let [many, one] = calls;
            let many = told(&place, &many.0, many.1).await;
            assert_eq!(told(&place, &one.0, one.1).await, many, "{put:?} {seen} {new_life}");
        }
    }
    let nobody = |name| format!("{name}({}, ARRAY[7]::bigint[], ARRAY[false])", KEEP.values("cc"));
    let many = told(&place, &nobody("replace_1"), "cc").await;
    assert_eq!(told(&place, &nobody("replace_2"), "cc").await, many);
}

/// What does not change when an operation ends.
const OF_THE_CLAIM: &str = "created, run_until, fence, owner, attempt";

/// The row of a key: what an end changes of it, and what it does not.
fn row_of(place: &Place, key: &str) -> AssertSqlSafe<String> {
    let text = format!(
        "SELECT SCHEMA.from_now(to_jsonb(r) - '{{{OF_THE_CLAIM}, revision, key}}'::text[], r.updated), ROW({OF_THE_CLAIM})::text
         FROM SCHEMA.onceward_operations r WHERE key = '{key}'"
    );
    AssertSqlSafe(text.replace("SCHEMA", &place.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_meets_nobody_keeps_what_any_number_of_them_do() {
    let place = Place::new().await;
    place.run(FROM_NOW).await;
    for (key, retention) in [("a", Duration::from_secs(60)), ("b", Duration::from_millis(u64::MAX))] {
        let millis = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX).to_string();
        let asked = Attempt {
            scope: Scope {
                principal: Principal::from_bytes([0x22; 16]),
                kind: "k".into(),
                host: "h".into(),
                path: "/p".into(),
            },
            fingerprint: Fingerprint::from_bytes([0x11; 32]),
            policy: Policy {
                lease: Duration::from_secs(30),
                run_max: Duration::from_secs(600),
                retention,
                tombstone: Duration::from_secs(70),
                unresolved: Unresolved::Rerun,
            },
            ..attempt(key)
        };
        let row = || sqlx::query_as::<_, (String, String)>(row_of(&place, key));
        let mut claimed = None;
        let mut transaction = place.begin().await;
        let told = place.operations.run_in(&mut transaction, &asked, |it| {
            let (row, claimed) = (row(), &mut claimed);
            Work::new(async move {
                *claimed = Some(row.fetch_one(it).await?);
                Ok::<_, sqlx::Error>(Answer::new("text", "ab"))
            })
        });
        let _answer = ran(told.await);
        let done = row().fetch_one(&mut *transaction).await.unwrap();
        transaction.rollback().await.unwrap();

        let put = |put: Put| {
            let values = put.values("aa").replace("ARRAY[decode('77', 'hex')]", "ARRAY[NULL]::bytea[]");
            values
                .replace("ARRAY['key']", &format!("ARRAY['{key}']"))
                .replace("ARRAY[60000]", &format!("ARRAY[{millis}]"))
        };
        place.run(&format!("SELECT SCHEMA.onceward_operation_claim_1(0, NULL, false, {})", put(OWNED))).await;
        let many = row().fetch_one(&place.root).await.unwrap();
        let claimed = claimed.unwrap();
        assert_eq!(claimed.0, many.0, "{key}");
        let end = format!(
            "SELECT SCHEMA.onceward_operation_replace_1({}, (SELECT array_agg(revision) FROM SCHEMA.onceward_operations), ARRAY[false])",
            put(Put { state: "done", ..KEEP })
        );
        place.run(&end).await;
        let many = row().fetch_one(&place.root).await.unwrap();
        assert_eq!(done.0, many.0, "{key}");
        assert_eq!(done.1, claimed.1, "{key}");
        place.run("TRUNCATE SCHEMA.onceward_operations").await;
    }
}
