use super::*;

fn sample(state: State) -> Record {
    Record {
        id: RecordId::from_bytes([9; 32]),
        listing: Arc::new(Listing {
            principal: Principal::from_bytes([3; 16]),
            kind: "POST".into(),
            host: "shop.example".into(),
            path: "/payments".into(),
            key: "k-1".into(),
        }),
        rules: RULES,
        fingerprint: Some(Fingerprint::from_bytes([5; 32])),
        state,
        owner: Owner::from_bytes([8; 16]),
        fence: Fence(77),
        revision: Revision(78),
        attempt: 2,
        policy: Policy::default(),
        checkpoint: Some(Bytes::from_static(b"half way")),
        lease_until: Timestamp::from_millis(1),
        run_until: Timestamp::from_millis(2),
        answer_until: Timestamp::MAX,
        gone_until: Timestamp::MAX,
        wake_at: Some(Timestamp::from_millis(3)),
        created: Timestamp::from_millis(4),
        updated: Timestamp::from_millis(5),
    }
}

fn states() -> Vec<State> {
    vec![
        State::Running,
        State::Abandoned { reason: "the connection broke".into() },
        State::Released,
        State::Done(Answer::new("http", b"\x00\xff\xfe".as_slice())),
        State::Done(Answer::new("json", b"".as_slice())),
        State::Tombstone,
    ]
}

#[test]
fn every_state_reads_back_to_the_same_record() {
    for state in states() {
        let record = sample(state);
        assert_eq!(decode(record.id, &encode(&record).into()).unwrap(), record);
    }
}

/// No bit of its bytes can be flipped, no end cut off and no other id given without a refusal.
fn check_damage(id: RecordId, good: &[u8]) {
    for at in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[at / 8] ^= 1 << (at % 8);
        assert_eq!(decode(id, &bad.into()).unwrap_err().kind(), ErrorKind::Corrupt, "bit {at}");
    }
    for len in 0..good.len() {
        assert!(decode(id, &Bytes::copy_from_slice(&good[..len])).is_err(), "cut to {len}");
    }
    assert!(decode(RecordId::from_bytes([1; 32]), &Bytes::copy_from_slice(good)).is_err());
}

#[test]
fn a_flipped_bit_a_cut_or_another_id_is_refused() {
    let record = sample(State::Done(Answer::new("http", b"body".as_slice())));
    check_damage(record.id, &encode(&record));
}

#[test]
fn an_unknown_format_with_a_right_checksum_is_refused() {
    let record = sample(State::Running);
    let mut bytes = encode(&record);
    bytes.truncate(bytes.len() - CHECK_BYTES);
    for format in [0, FORMAT + 1] {
        bytes[0] = format;
        let error = decode(record.id, &checked(record.id, bytes.clone())).unwrap_err();
        assert!(error.to_string().contains("format version"), "{error}");
    }
}

/// Stored bytes outlive a build. When this fails, [`FORMAT`] must grow and the old bytes stay readable.
#[test]
fn stored_bytes_are_what_they_were() {
    let record = sample(State::Done(Answer::new("http", b"body".as_slice())));
    assert_eq!(hex(&encode(&record)), GOLDEN_PLAIN);
    assert_eq!(decode(record.id, &unhex(GOLDEN_PLAIN)).unwrap(), record);
}

/// What the first two formats held is still read, and written anew in the present one.
#[test]
fn what_earlier_formats_stored_is_still_read() {
    let done = [Answer::new("http", b"body".as_slice()), long()];
    for ((stored, answer), now) in
        [GOLDEN_1, GOLDEN_2].into_iter().zip(done).zip([GOLDEN_PLAIN, GOLDEN_PACKED])
    {
        let record = sample(State::Done(answer.clone()));
        let read = decode(record.id, &unhex(stored)).unwrap();
        assert_eq!(read, record);
        assert_eq!(state_bytes(&read), answer.bytes().unwrap());
        assert_eq!(hex(&encode(&read)), now);
    }
}

#[test]
fn damage_to_what_earlier_formats_stored_is_refused() {
    for stored in [GOLDEN_1, GOLDEN_2].map(unhex) {
        check_damage(RecordId::from_bytes([9; 32]), &stored);
    }
}

#[test]
fn the_first_format_knows_no_packed_answers() {
    let record = sample(State::Done(long().packed()));
    let mut bytes = encode(&record);
    bytes.truncate(bytes.len() - CHECK_BYTES);
    bytes[0] = FORMAT_PLAIN;
    assert!(decode(record.id, &checked(record.id, bytes.clone())).is_err());
    bytes[0] = FORMAT_BLAKE3;
    assert!(decode(record.id, &checked(record.id, bytes)).is_ok());
}

#[test]
fn only_what_a_newer_build_wrote_is_newer() {
    let record = sample(State::Running);
    let good = encode(&record);
    let of = |at: usize, value: u8| {
        let mut bytes = good[..good.len() - CHECK_BYTES].to_vec();
        bytes[at] = value;
        checked(record.id, bytes)
    };
    for bytes in [good.clone().into(), unhex(GOLDEN_1), unhex(GOLDEN_2), Bytes::new(), of(0, 0)] {
        assert!(!is_newer(record.id, &bytes), "{bytes:?}");
    }
    for bytes in [of(0, FORMAT + 1), of(1, 1)] {
        assert!(is_newer(record.id, &bytes), "{bytes:?}");
        assert!(decode(record.id, &bytes).is_err());
    }
    for at in [0, 1] {
        let mut damaged = good.clone();
        damaged[at] ^= 0x40;
        assert!(!is_newer(record.id, &damaged), "its checksum is wrong");
    }
    assert!(!is_newer(record.id, b"no record"));
}

/// What zstd makes of the same bytes may differ between its versions; what it reads may not.
#[test]
fn packed_bytes_are_still_read() {
    let record = sample(State::Done(long()));
    let read = decode(record.id, &unhex(GOLDEN_PACKED)).unwrap();
    assert_eq!(read, record);
    assert_eq!(state_bytes(&read), long().bytes().unwrap());
    assert_eq!(hex(&encode(&read)), GOLDEN_PACKED, "bytes that were packed elsewhere stay as they are");
}

#[test]
fn what_is_not_packed_is_not_packed_here() {
    let read = decode(RecordId::from_bytes([9; 32]), &encode(&sample(State::Done(long()))).into()).unwrap();
    let State::Done(answer) = read.state else { panic!("it is done") };
    assert_eq!(answer.stored_len(), long().len());
}

/// Answers of every kind of length and content, none of them chosen by hand.
#[test]
fn any_answer_reads_back_packed_or_plain() {
    let mut dice = blake3::Hasher::new().update(b"answers").finalize_xof();
    for round in 0..400 {
        let mut rolled = [0; 8];
        dice.fill(&mut rolled);
        let rolled = u64::from_be_bytes(rolled);
        let len = usize::try_from(rolled % 70_000).unwrap() >> (rolled >> 20 & 7);
        let mut bytes = vec![0; len];
        dice.fill(&mut bytes);
        // From noise to a single byte over and over.
        let alphabet = [255, 64, 16, 4, 1][round % 5];
        bytes.iter_mut().for_each(|it| *it %= alphabet);
        let answer = Answer::new("http", bytes);
        for answer in [answer.clone(), answer.packed()] {
            let record = sample(State::Done(answer.clone()));
            let stored: Bytes = encode(&record).into();
            let read = decode(record.id, &stored).unwrap();
            assert_eq!(read, record);
            assert_eq!(state_bytes(&read), answer.bytes().unwrap());
            assert_eq!(hex(&encode(&read)), hex(&stored));
        }
    }
}

#[test]
fn a_packed_record_with_a_flipped_bit_a_cut_or_another_id_is_refused() {
    let record = sample(State::Done(long().packed()));
    check_damage(record.id, &encode(&record));
}

/// Even under a right checksum, bytes that were changed never panic, take no room beyond the bound, and are an
/// answer only where they are one.
#[test]
fn a_packed_record_that_lies_under_a_right_checksum_is_harmless() {
    let record = sample(State::Done(long().packed()));
    let mut good = encode(&record);
    good.truncate(good.len() - CHECK_BYTES);
    for at in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[at / 8] ^= 1 << (at % 8);
        if let Ok(read) = decode(record.id, &checked(record.id, bad))
            && let State::Done(answer) = &read.state
        {
            assert!(answer.len() <= PACK_BYTES_MAX);
            if let Ok(bytes) = answer.bytes() {
                assert_eq!(bytes.len(), answer.len());
            }
        }
    }
}

#[test]
fn a_declared_length_over_the_bound_is_refused_before_anything_is_unpacked() {
    let record = sample(State::Done(long().packed()));
    let State::Done(answer) = &record.state else { unreachable!() };
    let Content::Packed { frame, .. } = answer.content() else { panic!("it is packed") };
    let max = u32::try_from(PACK_BYTES_MAX).unwrap();
    for (len, is_read) in [(5000, true), (max, true), (max + 1, false), (u32::MAX, false)] {
        let content = Content::Packed { frame: frame.clone(), len };
        let lying = sample(State::Done(Answer::of("http".into(), content)));
        assert_eq!(decode(record.id, &encode(&lying).into()).is_ok(), is_read, "{len}");
    }
}

fn checked(id: RecordId, mut bytes: Vec<u8>) -> Bytes {
    let check = checksum(bytes[0], id, &bytes);
    bytes.extend_from_slice(&check);
    bytes.into()
}

/// An answer that packs.
fn long() -> Answer {
    let bytes: Bytes = b"{\"amount\":12,\"currency\":\"EUR\"},".iter().copied().cycle().take(5000).collect();
    Answer::new("http", bytes)
}

fn state_bytes(record: &Record) -> Bytes {
    let State::Done(answer) = &record.state else { panic!("it is done") };
    answer.bytes().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

const GOLDEN_PLAIN: &str = "030001000000000000004e000000000000004d080808080808080808080808080808080000000200000000000000010000000000000002ffffffffffffffffffffffffffffffff00000000000000040000000000000005010000000000000003010505050505050505050505050505050505050505050505050505050505050505030303030303030303030303030303030000000000000004504f5354000000000000000c73686f702e6578616d706c6500000000000000092f7061796d656e747300000000000000036b2d31000000000000753000000000000927c00000000005265c0000000000240c84000001000000000000000868616c6620776179030000000000000004687474700000000000000004626f6479c0f83c44eca53560";
const GOLDEN_PACKED: &str = "030001000000000000004e000000000000004d080808080808080808080808080808080000000200000000000000010000000000000002ffffffffffffffffffffffffffffffff00000000000000040000000000000005010000000000000003010505050505050505050505050505050505050505050505050505050505050505030303030303030303030303030303030000000000000004504f5354000000000000000c73686f702e6578616d706c6500000000000000092f7061796d656e747300000000000000036b2d31000000000000753000000000000927c00000000005265c0000000000240c84000001000000000000000868616c66207761790500000000000000046874747000001388000000000000003128b52ffd6088123d0100f87b22616d6f756e74223a31322c2263757272656e6379223a22455552227d2c01009b8de8951357cd905d77c7503a";
const GOLDEN_1: &str = "010001000000000000004e000000000000004d080808080808080808080808080808080000000200000000000000010000000000000002ffffffffffffffffffffffffffffffff00000000000000040000000000000005010000000000000003010505050505050505050505050505050505050505050505050505050505050505030303030303030303030303030303030000000000000004504f5354000000000000000c73686f702e6578616d706c6500000000000000092f7061796d656e747300000000000000036b2d31000000000000753000000000000927c00000000005265c0000000000240c84000001000000000000000868616c6620776179030000000000000004687474700000000000000004626f64797e0a90a60a00d18b";
const GOLDEN_2: &str = "020001000000000000004e000000000000004d080808080808080808080808080808080000000200000000000000010000000000000002ffffffffffffffffffffffffffffffff00000000000000040000000000000005010000000000000003010505050505050505050505050505050505050505050505050505050505050505030303030303030303030303030303030000000000000004504f5354000000000000000c73686f702e6578616d706c6500000000000000092f7061796d656e747300000000000000036b2d31000000000000753000000000000927c00000000005265c0000000000240c84000001000000000000000868616c66207761790500000000000000046874747000001388000000000000003128b52ffd6088123d0100f87b22616d6f756e74223a31322c2263757272656e6379223a22455552227d2c01009b8de895134a39d66125ea7936";
