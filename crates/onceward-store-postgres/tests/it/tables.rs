//! The tables: made once by however many, by a role with few rights, and never by a build that does not know them.

use std::sync::Arc;

use onceward_core::store::Store;
use onceward_store_postgres::{OpenError, PostgresSettings, PostgresStore, migrate};
use onceward_testkit::server::{PgBouncer, Postgres};
use onceward_testkit::within;
use tokio::task::JoinSet;

use crate::sample::{completion, id, inserted, place, swapped};
use crate::support::{self, open};

fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::from_url(url).unwrap()
}

async fn refused(url: &str) -> OpenError {
    PostgresStore::open(settings(url)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_that_start_at_once_make_the_tables_once() {
    let server = Postgres::shared();
    for isolation in ["read committed", "serializable"] {
        let (name, url) = place(server).await;
        let sql = format!("ALTER ROLE {name} SET default_transaction_isolation = '{isolation}'");
        support::run(server, &sql).await;
        let mut opening = JoinSet::new();
        for _ in 0..10 {
            let url = url.clone();
            opening.spawn(async move { open(&url).await });
        }
        let stores = within(opening.join_all()).await;
        inserted(&stores[0], id(1)).await;
        for store in &stores {
            assert!(store.load(id(1)).await.unwrap().record.is_some());
        }
        let (client, _) = support::client(&server.url("onceward")).await;
        let sql = format!("SELECT count(*), max(version)::bigint FROM {name}.onceward_schema");
        let row = client.query_one(&sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "each step once");
    }
}

#[tokio::test]
async fn without_migrating_missing_tables_are_an_error_that_says_what_to_run() {
    let server = Postgres::shared();
    let (_, url) = place(server).await;
    let error = refused(&format!("{url}&migrate=off")).await;
    assert!(matches!(error, OpenError::NotMigrated { found: 0, .. }));
    assert!(error.to_string().contains("onceward store migrate URL"), "{error}");
    migrate(&settings(&format!("{url}&migrate=off"))).await.unwrap();
    migrate(&settings(&url)).await.unwrap();
    inserted(&open(&format!("{url}&migrate=off")).await, id(1)).await;
}

#[tokio::test]
async fn tables_of_a_newer_build_are_refused_and_left_alone() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    drop(open(&url).await);
    support::run(server, &format!("INSERT INTO {name}.onceward_schema (version) VALUES (99)")).await;
    let error = refused(&url).await;
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(migrate(&settings(&url)).await.is_err());
}

#[tokio::test]
async fn tables_of_a_newer_build_that_say_so_are_used_and_left_alone() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let record = inserted(&open(&url).await, id(1)).await;
    support::run(server, &format!("INSERT INTO {name}.onceward_schema (version, needs) VALUES (99, 1)"))
        .await;
    for url in [format!("{url}&migrate=off"), url] {
        assert_eq!(open(&url).await.load(id(1)).await.unwrap().record, Some(Arc::clone(&record)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_first_step_are_updated_beside_a_store_that_is_open() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let store = open(&url).await;
    // As the first builds made them: they had three functions, and no such column.
    let record = inserted(&store, id(1)).await;
    let sql = format!(
        "DO $$ DECLARE newer regprocedure; BEGIN
             FOR newer IN SELECT oid FROM pg_proc WHERE pronamespace = '{name}'::regnamespace
                 AND proname NOT IN ('onceward_insert_1', 'onceward_replace_1', 'onceward_load_1')
             LOOP EXECUTE format('DROP FUNCTION %s', newer); END LOOP;
         END $$;
         DROP TABLE {name}.onceward_operations, {name}.onceward_outbox;
         DELETE FROM {name}.onceward_schema WHERE version > 1;
         ALTER TABLE {name}.onceward_schema DROP COLUMN needs"
    );
    support::run(server, &sql).await;
    assert!(matches!(
        refused(&format!("{url}&migrate=off")).await,
        OpenError::NotMigrated { found: 1, known: 7 }
    ));
    let newer = open(&url).await;
    assert_eq!(newer.load(id(1)).await.unwrap().record, Some(record));
    newer.sweep(10).await.unwrap();
    let record = inserted(&store, id(2)).await;
    swapped(&newer, &record, &completion(&record)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_cost_more_than_the_row_go_but_nobody_waits_for_that() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let checks = format!(
        "SELECT count(*) FROM pg_constraint
         WHERE conrelid = '{name}.onceward_operations'::regclass AND contype = 'c'"
    );
    for is_open in [false, true] {
        drop(open(&url).await);
        let before = format!(
            "ALTER TABLE {name}.onceward_operations
                 ADD CONSTRAINT onceward_records_state_check CHECK (state <> ''), ADD CONSTRAINT theirs CHECK (key <> 'x');
             DROP FUNCTION {name}.onceward_operation_done_1;
             DELETE FROM {name}.onceward_schema WHERE version = 7"
        );
        support::run(server, &before).await;
        let (other, _) = support::client(&server.url("onceward")).await;
        if is_open {
            let lock = format!("BEGIN; LOCK TABLE {name}.onceward_operations IN ROW EXCLUSIVE MODE");
            other.batch_execute(&lock).await.unwrap();
        }
        drop(open(&url).await);
        let left: i64 = other.query_one(&checks, &[]).await.unwrap().get(0);
        assert_eq!(left, if is_open { 2 } else { 1 }, "theirs is left alone");
        other.batch_execute("ROLLBACK").await.unwrap();
        support::run(server, &format!("ALTER TABLE {name}.onceward_operations DROP CONSTRAINT theirs")).await;
    }
}

#[tokio::test]
async fn tables_that_were_made_by_the_path_are_found_by_name_and_the_other_way_round() {
    let server = Postgres::shared();
    for made_by_name in [true, false] {
        let (name, by_name) = place(server).await;
        support::run(server, &format!("ALTER ROLE {name} SET search_path = {name}")).await;
        let by_path = server.url(&name);
        let (first, second) = if made_by_name { (&by_name, &by_path) } else { (&by_path, &by_name) };
        let record = inserted(&open(first).await, id(1)).await;
        // Where the path leads elsewhere the name alone counts.
        if !made_by_name {
            support::run(server, &format!("ALTER ROLE {name} RESET search_path")).await;
        }
        assert_eq!(open(second).await.load(id(1)).await.unwrap().record, Some(record));
    }
}

#[tokio::test]
async fn a_schema_that_is_missing_is_named() {
    let server = Postgres::shared();
    let error = refused(&format!("{}?schema=nowhere", server.url("onceward"))).await;
    assert_eq!(error, OpenError::NoSchema { schema: "nowhere".into() });
}

#[tokio::test]
async fn a_role_without_the_right_to_make_tables_is_told_so() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    support::run(server, &format!("REVOKE CREATE ON SCHEMA {name} FROM {name}")).await;
    let error = refused(&url).await;
    assert!(matches!(error, OpenError::Migrate { .. }), "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");
}

#[tokio::test]
async fn tables_are_made_through_a_pooler_in_any_mode() {
    let server = Postgres::shared();
    for mode in ["session", "transaction", "statement"] {
        let (name, _) = place(server).await;
        let pooler = PgBouncer::start(server, mode);
        let store = open(&format!("{}?schema={name}", pooler.url())).await;
        inserted(&store, id(1)).await;
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let server = Postgres::shared();
    support::run(server, "CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0").await;
    let error = refused(&server.url("onceward").replace("/postgres", "/narrow")).await;
    assert_eq!(error, OpenError::Encoding { found: "LATIN1".into() });
}

#[tokio::test]
async fn a_server_that_does_not_wait_for_its_disk_makes_the_store_not_durable() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    assert!(open(&url).await.traits().durable);
    for (setting, durable) in [("off", false), ("local", true), ("on", true)] {
        support::run(server, &format!("ALTER ROLE {name} SET synchronous_commit = {setting}")).await;
        let traits = open(&url).await.traits();
        assert_eq!((traits.durable, traits.shared, traits.name), (durable, true, "postgres"), "{setting}");
    }
}
