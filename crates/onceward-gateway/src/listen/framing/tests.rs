use super::*;

const BOUNDS: Bounds = Bounds { head_bytes: 2048, headers: 8, target_bytes: 256 };

/// What became of a stream of bytes: how many were passed on, where heads ended, and what was wrong.
type Found = (usize, Vec<usize>, Option<Violation>);

/// Shows `bytes` in pieces that end at `cuts`, as the reader does.
fn judge(bytes: &[u8], cuts: &[usize]) -> Found {
    let mut framing = Framing::new(BOUNDS);
    let (mut passed, mut heads) = (0, Vec::new());
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        loop {
            match framing.judge(&bytes[passed..cut]) {
                Ok(Verdict::Pass(count)) => {
                    assert!(count > 0);
                    passed += count;
                }
                Ok(Verdict::Head { bytes, .. }) => {
                    passed += bytes;
                    heads.push(passed);
                }
                Ok(Verdict::More) => break,
                Err(violation) => return (passed, heads, Some(violation)),
            }
        }
    }
    (passed, heads, None)
}

/// Judges in one piece, byte by byte, and in two pieces at every place; all must agree.
#[track_caller]
fn judge_every_way(bytes: &[u8]) -> Found {
    let whole = judge(bytes, &[]);
    let singly: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(judge(bytes, &singly), whole, "byte by byte: {:?}", String::from_utf8_lossy(bytes));
    for cut in 1..bytes.len() {
        assert_eq!(judge(bytes, &[cut]), whole, "cut at {cut}: {:?}", String::from_utf8_lossy(bytes));
    }
    whole
}

/// `head` is refused, and not a byte of it gets through.
#[track_caller]
fn check_head(head: impl AsRef<[u8]>, violation: Violation) {
    let head = head.as_ref();
    let shown = String::from_utf8_lossy(head);
    assert_eq!(judge_every_way(head), (0, vec![], Some(violation)), "{shown:?}");
    // The same behind a request that is plain.
    let plain = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    let second = [plain, head].concat();
    assert_eq!(judge_every_way(&second), (plain.len(), vec![plain.len()], Some(violation)), "{shown:?}");
}

/// The lines are refused between a request line and the end of the head, and before and after `Host`.
#[track_caller]
fn check_lines(lines: &str, violation: Violation) {
    check_head(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nbody"), violation);
    check_head(format!("POST / HTTP/1.1\r\n{lines}\r\nHost: a\r\n\r\nbody"), violation);
}

#[track_caller]
fn check_plain(bytes: impl AsRef<[u8]>, heads: usize) {
    let bytes = bytes.as_ref();
    let (passed, ends, violation) = judge_every_way(bytes);
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!((passed, ends.len(), violation), (bytes.len(), heads, None), "{shown:?}");
}

#[track_caller]
fn check_chunks(body: &str, violation: Violation) {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (_, heads, found) = judge_every_way(format!("{head}{body}").as_bytes());
    assert_eq!((heads, found), (vec![head.len()], Some(violation)), "{body:?}");
}

#[test]
fn plain_requests_pass_byte_for_byte() {
    check_plain("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    check_plain("GET / HTTP/1.0\r\n\r\n", 1);
    check_plain("GET /a?b=c&d=%20 HTTP/1.1\r\nhost:a:80\r\naccept:\t*/* \r\nx:\r\n\r\n", 1);
    check_plain("GET http://a:81/x HTTP/1.1\r\nHost: A:81\r\n\r\n", 1);
    check_plain("GET http://[::1]:81?x HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", 1);
    check_plain("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    check_plain("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 1);
    check_plain(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nx: \xe9\r\n\r\n", 1);
    check_plain("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2);
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\nhello";
    check_plain(sized.repeat(3), 3);
    check_plain("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".repeat(2), 2);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
    check_plain(format!("{chunked}0\r\n\r\n{sized}"), 2);
    check_plain(
        format!(
            "{chunked}5\r\nhello\r\n00A;a=b;c=\"d\"\r\n\r\n\r\n\r\n\r\n\0\0\r\n0;z\r\nx-sum: 1\r\n\r\n{sized}"
        ),
        2,
    );
}

#[test]
fn a_body_of_any_bytes_is_no_head() {
    let smuggled = "GET /admin HTTP/1.1\nHost : b\r\n\r\n";
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", smuggled.len());
    check_plain(format!("{head}{smuggled}"), 1);
}

#[test]
fn a_request_line_that_is_not_plain_is_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / ",
        "GET /",
        "GET",
        "/ HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/01.1",
        "GET / http/1.1",
        "GET / HTTP/1.1\r",
        "GET /a\rb HTTP/1.1",
        "GET /a\0b HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET: / HTTP/1.1",
        "GET /a b HTTP/1.1",
    ] {
        check_head(format!("{line}\r\nHost: a\r\n\r\n"), Violation::RequestLine);
    }
    // One empty line is let through, a second one is not.
    let empty_lines = judge_every_way(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(empty_lines, (2, vec![], Some(Violation::RequestLine)));
    check_head(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Violation::RequestLine);
    check_head("A".repeat(100), Violation::RequestLine);
}

#[test]
fn a_target_that_names_something_else_is_refused() {
    for target in [
        "/a#b",
        "http://b/",
        "http://a@b/",
        "http://b@a/",
        "http:///",
        "http:a",
        "ftp://a/",
        "a",
        "a:80",
        "http://a:80/",
        "//a/".trim_start_matches('/'),
    ] {
        check_head(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Violation::Target);
    }
    check_head("CONNECT b:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", Violation::Target);
}

#[test]
fn a_line_that_ends_without_both_of_cr_and_lf_is_refused() {
    check_head("GET / HTTP/1.1\nHost: a\r\n\r\n", Violation::LineEnd);
    check_head("GET / HTTP/1.1\r\nHost: a\n\r\n", Violation::LineEnd);
    check_head("GET / HTTP/1.1\r\nHost: a\r\n\n", Violation::LineEnd);
    check_head("GET / HTTP/1.1\n\nHost: a\r\n\r\n", Violation::LineEnd);
    check_head("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::RequestLine);
    check_lines("x: a\rb: c", Violation::LineEnd);
    check_lines("x: a\r\rContent-Length: 4", Violation::LineEnd);
}

#[test]
fn the_rules_for_lines_do_not_rely_on_who_found_their_end() {
    let plain = "GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n";
    assert!(head::check(plain.as_bytes(), BOUNDS).is_ok());
    let trailers = "x: y\r\nz:\r\n\r\n";
    assert!(head::check_trailers(trailers.as_bytes(), BOUNDS).is_ok());
    assert!(head::check_trailers(b"\r\n", BOUNDS).is_ok());
    // Each end of a line is spoilt in turn; then what is whole is cut anywhere.
    let spoilt = |whole: &str| -> Vec<String> {
        let at = whole.match_indices("\r\n").map(|it| it.0);
        let ends = ["\n", "\r", "\n\r", "\r\n\n"];
        at.flat_map(|at| ends.map(|end| format!("{}{end}{}", &whole[..at], &whole[at + 2..]))).collect()
    };
    for head in spoilt(plain) {
        assert!(head::check(head.as_bytes(), BOUNDS).is_err(), "{head:?}");
    }
    for lines in spoilt(trailers) {
        assert!(head::check_trailers(lines.as_bytes(), BOUNDS).is_err(), "{lines:?}");
    }
    for cut in 0..plain.len() {
        assert!(head::check(&plain.as_bytes()[..cut], BOUNDS).is_err(), "cut at {cut}");
    }
    for cut in 0..trailers.len() {
        assert!(head::check_trailers(&trailers.as_bytes()[..cut], BOUNDS).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_header_that_is_not_plain_is_refused() {
    for line in
        [": a", "x : a", "x\t: a", "x", "x y: a", "x(: a", "\u{e9}: a", "x\0: a", "x\r: a", "\x0bx: a"]
    {
        check_lines(line, Violation::HeaderName);
    }
    for line in ["x: a\0", "x: \x01", "x: a\x0bb", "x: \x7f", "x: a\x1b[0m"] {
        check_lines(line, Violation::HeaderValue);
    }
    for line in [" x: a", "\tx: a", "x: a\r\n b", "x: a\r\n\tb", "Transfer-Encoding:\r\n chunked", " "] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        // Which rule is first does not matter where an empty value breaks another one.
        let (passed, _, violation) = judge_every_way(head.as_bytes());
        let is_right = matches!(violation, Some(Violation::Folded | Violation::TransferEncoding));
        assert!(passed == 0 && is_right, "{line:?}: {violation:?}");
    }
    check_lines("x: a\r\n b", Violation::Folded);
}

#[test]
fn a_request_has_one_host() {
    check_head("GET / HTTP/1.1\r\n\r\n", Violation::Host);
    check_head("GET http://a/ HTTP/1.1\r\n\r\n", Violation::Host);
    check_lines("Host: a", Violation::Host);
    check_lines("HOST: b", Violation::Host);
    check_head("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", Violation::Host);
    for host in ["", "a, b", "a b", "a/b", "b@a", "a?", "a#", "a\\b", "a\tb", "\u{e9}"] {
        check_head(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Violation::Host);
    }
}

#[test]
fn a_length_is_one_plain_decimal_number() {
    for value in [
        "",
        "+4",
        "-4",
        "-0",
        "4 4",
        "4,4",
        "4, 4",
        "0x4",
        "4.0",
        "4e0",
        "four",
        "4_0",
        "\"4\"",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551620",
        "99999999999999999999999999",
        "\u{664}",
    ] {
        check_lines(&format!("Content-Length: {value}"), Violation::ContentLength);
    }
    check_lines("Content-Length: 4\r\nContent-Length: 4", Violation::ContentLength);
    check_lines("Content-Length: 4\r\ncontent-length: 5", Violation::ContentLength);
    check_lines("Content-Length: 0\r\nContent-Length: 0", Violation::ContentLength);
}

#[test]
fn a_transfer_encoding_is_one_chunked() {
    for value in [
        "",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "gzip, chunked",
        "chunked, identity",
        "chunked;q=1",
        "\"chunked\"",
        "chunked chunked",
        "chun\u{a0}ked",
    ] {
        check_lines(&format!("Transfer-Encoding: {value}"), Violation::TransferEncoding);
    }
    check_lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Violation::TransferEncoding);
    check_lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", Violation::TransferEncoding);
    check_head("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::TransferEncoding);
    check_lines("Content-Length: 4\r\nTransfer-Encoding: chunked", Violation::TwoLengths);
    check_lines("Transfer-Encoding: chunked\r\nContent-Length: 4", Violation::TwoLengths);
}

#[test]
fn a_chunk_is_what_its_size_says() {
    for size in [
        "\r\n",
        ";a\r\n",
        " 5\r\n",
        "5 \r\n",
        "5 ;a\r\n",
        "+5\r\n",
        "-5\r\n",
        "0x5\r\n",
        "5\0\r\n",
        "g\r\n",
        "5;a\0\r\n",
        "8000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "00000000000000005\r\n",
        "10000000000000000\r\n",
    ] {
        check_chunks(&format!("{size}hello\r\n0\r\n\r\n"), Violation::ChunkSize);
    }
    for line in ["5\nhello", "5;a\nhello", "5\r\rhello", "5;a\rb\r\nhello", "5;a\r;b\r\nhello"] {
        check_chunks(&format!("{line}\r\n0\r\n\r\n"), Violation::LineEnd);
    }
    for end in
        ["hello0\r\n\r\n", "hello!\r\n0\r\n\r\n", "hello\n0\r\n\r\n", "hell\r\n0\r\n\r\n", "hello\r0\r\n"]
    {
        check_chunks(&format!("5\r\n{end}xxxx"), Violation::ChunkEnd);
    }
    check_chunks(&format!("5;{}\r\nhello", "a".repeat(1100)), Violation::ChunkSize);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chatty = |chunks| format!("{head}{}", format!("1;{}\r\na\r\n", "a".repeat(1000)).repeat(chunks));
    assert_eq!(judge(chatty(16).as_bytes(), &[]).2, None);
    assert_eq!(judge(chatty(17).as_bytes(), &[]).2, Some(Violation::ChunkSize));
}

#[test]
fn trailers_frame_nothing() {
    for line in [
        "Content-Length: 4",
        "transfer-encoding: chunked",
        "Host: b",
        "Trailer: x",
        "x : a",
        ": a",
        "x",
        " x: a",
        "x: a\nb: c",
        "x: \0",
        "x: a\rb",
    ] {
        check_chunks(&format!("0\r\nok: 1\r\n{line}\r\n\r\n"), Violation::Trailer);
    }
    check_chunks("0\r\n\n", Violation::Trailer);
    check_chunks(&format!("0\r\n{}\r\n", "x: a\r\n".repeat(9)), Violation::Trailer);
    check_chunks(&format!("0\r\nx: {}\r\n\r\n", "a".repeat(2048)), Violation::Trailer);
}

#[test]
fn a_head_within_its_limits_passes_and_one_beyond_does_not() {
    let head = |target: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(target - 1));
    check_plain(head(256), 1);
    check_head(head(257), Violation::TargetTooLong);
    let head = |lines: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: a\r\n".repeat(lines));
    check_plain(head(7), 1);
    check_head(head(8), Violation::HeadTooLarge);
    let head = |bytes: usize| {
        let empty = "GET / HTTP/1.1\r\nHost: a\r\nx: \r\n\r\n";
        empty.replace("x: ", &format!("x: {}", "a".repeat(bytes - empty.len())))
    };
    check_plain(head(2048), 1);
    check_head(head(2049), Violation::HeadTooLarge);
    // Without an end it is refused as soon as it cannot end in time.
    assert_eq!(judge(&head(4000).as_bytes()[..2049], &[]).2, Some(Violation::HeadTooLarge));
    assert_eq!(judge(&head(4000).as_bytes()[..2048], &[]).2, None);
}

/// A generator of pseudo-random numbers (SplitMix64): the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.below(from.len())]
    }
}

/// Pieces of requests, good and bad, in any order.
fn some_bytes(random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 28] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nx: y\r\n\r\n",
        b"hello",
        b"GET / HTTP/1.1\r\n",
        b"PUT http://a/ HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"x: y\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b"\0",
        b":",
        b"5",
        b";a=b\r\n",
        b"#",
        b"5\n",
        b"\xff",
        b"GET",
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let mut bytes = Vec::new();
    for _ in 0..=random.below(12) {
        // Mostly what could go on, so that the deeper states are seen.
        let piece = if random.below(3) == 0 { random.pick(&PIECES) } else { random.pick(&PIECES[..16]) };
        bytes.extend_from_slice(piece);
    }
    if random.below(4) == 0 && !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] = u8::try_from(random.below(256)).unwrap();
    }
    bytes
}

#[test]
fn the_same_bytes_get_the_same_verdict_however_they_are_split() {
    let mut random = Random(20_260_101);
    let mut refused = 0;
    for _ in 0..20_000 {
        let bytes = some_bytes(&mut random);
        let whole = judge(&bytes, &[]);
        refused += usize::from(whole.2.is_some());
        for _ in 0..4 {
            let mut cuts: Vec<usize> = (0..random.below(8)).map(|_| random.below(bytes.len())).collect();
            cuts.sort_unstable();
            assert_eq!(judge(&bytes, &cuts), whole, "{cuts:?} of {:?}", String::from_utf8_lossy(&bytes));
        }
    }
    assert!((5_000..19_000).contains(&refused), "the generator makes both kinds: {refused} refused");
}
