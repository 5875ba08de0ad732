//! The functions of the table, without a relay: what is claimed, and who may say how it went.

use std::time::Duration;

use onceward_core::Owner;
use onceward_store_postgres::outbox::{Claimed, FIRST_LINE, Failed, Held, Wanted};
use onceward_testkit::eventually;

use super::place::{Place, effect};

const LONG: Duration = Duration::from_secs(60);
const ONE: Owner = Owner::from_bytes([1; 16]);
const TWO: Owner = Owner::from_bytes([2; 16]);
const NONE: [i64; 0] = [];

impl Place {
    async fn claim(&self, owner: Owner, lease: Duration, line_max: usize) -> Claimed {
        let wanted = Wanted {
            kinds: &["log".to_owned()],
            after: FIRST_LINE,
            lines_max: 1000,
            line_max,
            rows_max: 1000,
            bytes_max: 1 << 20,
        };
        self.table.claim(&self.pool, owner, lease, wanted).await.unwrap()
    }

    /// Claims again and again until there is something: a lease is to run out first.
    async fn claim_soon(&self, owner: Owner, lease: Duration, line_max: usize) -> Claimed {
        let mut claimed = None;
        eventually(async || {
            let it = self.claim(owner, lease, line_max).await;
            let found = !it.rows.is_empty();
            claimed = Some(it);
            found
        })
        .await;
        claimed.unwrap()
    }
}

fn held(claimed: &Claimed) -> Vec<Held> {
    claimed.rows.iter().map(|it| it.held).collect()
}

fn bodies(claimed: &Claimed) -> Vec<&str> {
    claimed.rows.iter().map(|it| std::str::from_utf8(&it.body).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_an_effect_can_say_nothing_about_it_any_more() {
    let place = Place::new().await;
    place.add(&[effect(Some("a"), "1"), effect(Some("a"), "2")]).await;
    let first = held(&place.claim(ONE, Duration::ZERO, 10).await);
    let second = held(&place.claim_soon(TWO, LONG, 10).await);
    assert_eq!(first.len(), 2);
    assert!(first.iter().zip(&second).all(|(one, two)| one.seq == two.seq && one.fence < two.fence));
    let failed = |held| Failed { held, pause: None, reason: "no".into(), tried: true };
    // Neither under the old fence nor under a stolen one.
    for held in [&first, &second] {
        assert_eq!(place.table.sent(&place.pool, ONE, held).await.unwrap(), NONE);
        assert_eq!(place.table.failed(&place.pool, ONE, &[failed(held[0])]).await.unwrap(), NONE);
        assert_eq!(place.table.extend(&place.pool, ONE, LONG, held).await.unwrap(), NONE);
        assert_eq!(place.table.give_back(&place.pool, ONE, held).await.unwrap(), NONE);
    }
    assert_eq!(place.table.sent(&place.pool, TWO, &first).await.unwrap(), NONE, "of an earlier claim");
    assert_eq!(place.table.sent(&place.pool, TWO, &second).await.unwrap().len(), 2);
    assert_eq!(place.table.sent(&place.pool, TWO, &second).await.unwrap(), NONE, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_behind_what_is_somebody_elses_waits_or_is_parked() {
    let place = Place::new().await;
    place.add(&["1", "2", "3"].map(|it| effect(Some("a"), it))).await;
    let first = place.claim(ONE, LONG, 1).await;
    assert_eq!(bodies(&first), ["1"]);
    assert_eq!(bodies(&place.claim(TWO, LONG, 10).await), [""; 0], "it is somebody's");
    let pause = |pause| Failed { held: held(&first)[0], pause, reason: String::new(), tried: true };
    place.table.failed(&place.pool, ONE, &[pause(Some(LONG))]).await.unwrap();
    assert_eq!(bodies(&place.claim(TWO, LONG, 10).await), [""; 0], "it waits");
    sqlx::query("UPDATE onceward_outbox SET not_before = 0").execute(&place.pool).await.unwrap();
    let again = place.claim(ONE, LONG, 2).await;
    assert_eq!(bodies(&again), ["1", "2"]);
    assert_eq!(again.rows[0].attempts, 1);
    let [one, two] = held(&again)[..] else { panic!("two") };
    let parked = Failed { held: one, ..pause(None) };
    place.table.failed(&place.pool, ONE, &[parked]).await.unwrap();
    place.table.give_back(&place.pool, ONE, &[two]).await.unwrap();
    assert_eq!(bodies(&place.claim(TWO, LONG, 10).await), [""; 0], "it is parked");
    let ids = place.outbox.parked(&place.pool, 0, 10).await.unwrap();
    place.outbox.redrive(&place.pool, &[ids[0].effect.id]).await.unwrap();
    let all = place.claim(TWO, LONG, 10).await;
    assert_eq!(bodies(&all), ["1", "2", "3"]);
    assert_eq!(all.rows[0].attempts, 0);
    // A line with a gap in it is claimed up to the gap.
    let [_, two, _] = held(&all)[..] else { panic!("three") };
    place.table.give_back(&place.pool, TWO, &held(&all)).await.unwrap();
    let sql = "UPDATE onceward_outbox SET not_before = 9000000000000 WHERE seq = $1";
    sqlx::query(sql).bind(two.seq).execute(&place.pool).await.unwrap();
    assert_eq!(bodies(&place.claim(ONE, LONG, 10).await), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_another_claim_has_locked_ends_the_line_there() {
    let place = Place::new().await;
    place.add(&["1", "2", "3"].map(|it| effect(Some("a"), it))).await;
    for (locked, wanted) in [("2", &["1"][..]), ("1", &[])] {
        let mut other = place.pool.begin().await.unwrap();
        let sql = "SELECT FROM onceward_outbox WHERE body = convert_to($1, 'UTF8') FOR UPDATE";
        sqlx::query(sql).bind(locked).execute(&mut *other).await.unwrap();
        let claimed = place.claim(ONE, LONG, 10).await;
        assert_eq!(bodies(&claimed), wanted, "{locked}");
        other.rollback().await.unwrap();
        place.table.give_back(&place.pool, ONE, &held(&claimed)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_go_round_all_lines_in_pieces_of_the_size_that_was_asked_for() {
    let place = Place::new().await;
    let effects: Vec<_> =
        (0..30).flat_map(|key| ["1", "2"].map(|it| effect(Some(&format!("k-{key}")), it))).collect();
    place.add(&effects).await;
    let (mut after, mut claims, mut rows) = (FIRST_LINE, 0, Vec::new());
    loop {
        let kinds = ["log".to_owned()];
        let wanted =
            Wanted { kinds: &kinds, after, lines_max: 7, line_max: 5, rows_max: 10, bytes_max: 1 << 20 };
        let claimed = place.table.claim(&place.pool, ONE, LONG, wanted).await.unwrap();
        assert!(claimed.rows.len() <= 10);
        rows.extend(claimed.rows);
        claims += 1;
        let Some(next) = claimed.next else { break };
        after = next;
    }
    assert_eq!(claims, 5);
    // Of ten, the first ones of seven lines come before three second ones.
    assert_eq!(rows.iter().filter(|it| &*it.body == b"1").count(), 30);
    assert_eq!(rows.iter().filter(|it| &*it.body == b"2").count(), 4 * 3 + 2);
    let kinds = ["mail".to_owned()];
    let wanted =
        Wanted { kinds: &kinds, after: FIRST_LINE, lines_max: 7, line_max: 5, rows_max: 10, bytes_max: 1 };
    let claimed = place.table.claim(&place.pool, ONE, LONG, wanted).await.unwrap();
    assert!(claimed.rows.is_empty() && claimed.next.is_none(), "none is of that kind");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_claimed_up_to_a_size_and_one_may_be_larger() {
    let place = Place::new().await;
    let large = "x".repeat(3000);
    place.add(&[0; 5].map(|_| effect(None, &large))).await;
    for (bytes_max, count) in [(1, 1), (3001, 2)] {
        let kinds = ["log".to_owned()];
        let wanted =
            Wanted { kinds: &kinds, after: FIRST_LINE, lines_max: 9, line_max: 9, rows_max: 9, bytes_max };
        let claimed = place.table.claim(&place.pool, ONE, LONG, wanted).await.unwrap();
        assert_eq!(claimed.rows.len(), count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_relays_end_with_again_and_again_goes_alone() {
    let place = Place::new().await;
    place.add(&["1", "2", "3", "4"].map(|it| effect(None, it))).await;
    for lapses in 0..4 {
        let claimed = place.claim_soon(ONE, Duration::ZERO, 10).await;
        assert_eq!(claimed.rows.len(), 4);
        assert!(claimed.rows.iter().all(|it| it.attempts == lapses));
    }
    for _ in 0..4 {
        let claimed = place.claim_soon(TWO, LONG, 10).await;
        assert_eq!((claimed.rows.len(), claimed.rows[0].attempts), (1, 4));
        place.table.sent(&place.pool, TWO, &held(&claimed)).await.unwrap();
    }
    assert_eq!(place.stats().await.unsent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_removes_what_was_sent_long_ago_and_nothing_that_was_not_sent() {
    let place = Place::new().await;
    place.add(&["sent", "parked", "owned", "new"].map(|it| effect(None, it))).await;
    let claimed = place.claim(ONE, LONG, 1).await;
    let by = |body: &str| claimed.rows.iter().find(|it| &*it.body == body.as_bytes()).unwrap().held;
    place.table.sent(&place.pool, ONE, &[by("sent")]).await.unwrap();
    let parked = Failed { held: by("parked"), pause: None, reason: "no".into(), tried: true };
    place.table.failed(&place.pool, ONE, &[parked]).await.unwrap();
    place.table.give_back(&place.pool, ONE, &[by("new")]).await.unwrap();
    assert_eq!(place.table.cleanup(&place.pool, LONG, 100).await.unwrap(), 0, "it was just sent");
    assert_eq!(place.table.cleanup(&place.pool, Duration::ZERO, 100).await.unwrap(), 1);
    let stats = place.stats().await;
    assert_eq!((stats.unsent, stats.parked, stats.owned), (3, 1, 1));
    let sql = "SELECT count(*) FROM onceward_outbox";
    let left: i64 = sqlx::query_scalar(sql).fetch_one(&place.pool).await.unwrap();
    assert_eq!(left, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_looks_at_little_however_many_wait_or_were_sent_and_whenever_its_plan_was_made() {
    let place = Place::new().await;
    sqlx::raw_sql("VACUUM ANALYZE onceward_outbox").execute(&place.pool).await.unwrap();
    let one = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&place.url).await.unwrap();
    let (kinds, mut rows) = (["log".to_owned()], 0);
    let wanted = |max| Wanted {
        kinds: &kinds,
        after: FIRST_LINE,
        lines_max: max,
        line_max: 5,
        rows_max: 50,
        bytes_max: 1 << 20,
    };
    // Plans are made while the table is empty.
    for effects in [0, 10, 4000] {
        let mut transaction = place.pool.begin().await.unwrap();
        for number in 0..effects {
            let key = (number % 2 == 0).then_some(["a", "b", "c"][number % 3]);
            place.outbox.add(&mut transaction, &effect(key, "1")).await.unwrap();
        }
        transaction.commit().await.unwrap();
        for _ in 0..10 {
            let claimed = place.table.claim(&one, ONE, LONG, wanted(50)).await.unwrap();
            place.table.extend(&one, ONE, LONG, &held(&claimed)).await.unwrap();
            place.table.sent(&one, ONE, &held(&claimed)).await.unwrap();
            rows += claimed.rows.len();
        }
    }
    assert!(rows > 400);
    // The server counts what a connection read once that is closed.
    one.close().await;
    let sql = "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes
               WHERE relname = 'onceward_outbox'";
    let read = async || sqlx::query_scalar::<_, i64>(sql).fetch_one(&place.pool).await.unwrap();
    eventually(async || read().await > i64::try_from(rows).unwrap()).await;
    let (read, most) = (read().await, i64::try_from(rows).unwrap() * 20);
    assert!(read < most, "{rows} rows took {read} looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_passes_many_blocked_lines_in_steps() {
    let place = Place::new().await;
    let sql = "INSERT INTO onceward_outbox
                   (id, kind, destination, line, header_names, header_values, body, created, parked_at)
               SELECT uuid_send(gen_random_uuid()), 'log', 'here', line, '{}', '{}', '', 0, nullif(line, 12000)
               FROM generate_series(1, 12000) AS line";
    sqlx::query(sql).execute(&place.pool).await.unwrap();
    let kinds = ["log".to_owned()];
    let wanted =
        |after| Wanted { kinds: &kinds, after, lines_max: 9, line_max: 9, rows_max: 9, bytes_max: 1 << 20 };
    let first = place.table.claim(&place.pool, ONE, LONG, wanted(FIRST_LINE)).await.unwrap();
    assert_eq!((first.rows.len(), first.next), (0, Some(10_000)));
    let second = place.table.claim(&place.pool, ONE, LONG, wanted(10_000)).await.unwrap();
    assert_eq!((second.rows.len(), second.next), (1, None));
    place.table.give_back(&place.pool, ONE, &held(&second)).await.unwrap();
    let log = super::place::Log::default();
    let relay = place.relay(log.clone());
    log.until(1).await;
    relay.stop().await;
}
