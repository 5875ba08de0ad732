use std::time::Duration;

use onceward_core::Answer;

use super::*;

fn put(state: State) -> Put {
    let wake_after = Some(Duration::from_secs(3));
    Put { state, checkpoint: Some("half".into()), wake_after, ..onceward_testkit::claim(7) }
}

fn records() -> Vec<Record> {
    let id = RecordId::from_bytes([5; 32]);
    let now = Timestamp::from_millis(1_800_000_000_000);
    let states = [
        State::Running,
        State::Abandoned { reason: "why".into() },
        State::Released,
        State::Done(Answer::new("http", vec![b'\n'; 3000]).packed()),
        State::Tombstone,
    ];
    states.into_iter().map(|it| put(it).stamp(id, None, now)).collect()
}

#[test]
fn what_is_written_is_what_is_read() {
    for record in records() {
        let stored = Bytes::from(write(&record));
        assert_eq!(read(record.id, &stored).unwrap(), record);
    }
}

#[test]
fn no_line_is_longer_than_scripts_read() {
    let longest = Timestamp::from_millis((1 << 53) - 1);
    let record = Record {
        fence: Fence((1 << 53) - 1),
        revision: Revision((1 << 53) - 1),
        attempt: u32::MAX,
        lease_until: longest,
        run_until: longest,
        answer_until: longest,
        gone_until: longest,
        wake_at: Some(longest),
        created: longest,
        updated: longest,
        ..records().remove(0)
    };
    let stored = write(&record);
    assert!(stored.iter().position(|it| *it == b'\n').unwrap() < HEAD_BYTES_MAX);
    assert_eq!(read(record.id, &stored.into()).unwrap(), record);
}

#[test]
fn what_is_damaged_is_refused() {
    for record in records() {
        let good = write(&record);
        let line = good.iter().position(|it| *it == b'\n').unwrap();
        for cut in [0, 1, line, line + 1, line + 2, good.len() - 1] {
            let stored = Bytes::copy_from_slice(&good[..cut]);
            assert_eq!(read(record.id, &stored).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {cut}");
        }
        for at in line + 1..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(read(record.id, &bad.into()).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
        }
        let other = RecordId::from_bytes([6; 32]);
        assert_eq!(read(other, &Bytes::from(good.clone())).unwrap_err().kind(), ErrorKind::Corrupt);
        for (from, to) in [("1 ", "2 "), (" ", "  x "), ("\n", " more\n")] {
            let text = String::from_utf8_lossy(&good[..=line]).replacen(from, to, 1);
            let bad = [text.as_bytes(), &good[line + 1..]].concat();
            assert_eq!(read(record.id, &bad.into()).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
        }
    }
    // The line of one state before the bytes of another.
    let (running, done) = (write(&records()[0]), write(&records()[3]));
    let line = |it: &[u8]| it.iter().position(|it| *it == b'\n').unwrap() + 1;
    let mixed = [&running[..line(&running)], &done[line(&done)..]].concat();
    assert_eq!(read(records()[0].id, &mixed.into()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn scripts_are_told_times_that_they_can_count_with() {
    for (millis, told) in
        [(0, "0"), (1, "1"), ((1 << 51) - 1, "2251799813685247"), (1 << 51, "-"), (u64::MAX, "-")]
    {
        assert_eq!(pause(Duration::from_millis(millis)), told);
    }
    assert_eq!(time_text(Timestamp::MAX), "-");
    assert_eq!(time_text(Timestamp::from_millis(7)), "7");
}
