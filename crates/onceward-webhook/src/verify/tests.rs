//! What senders sign, by their own examples, and every change of it.

use http::HeaderName;

use super::*;

const BODY: &[u8] = br#"{"id":"evt_1"}"#;
const AT: u64 = 1_700_000_000;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut all = HeaderMap::new();
    for (name, value) in lines {
        all.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    all
}

fn verifier(scheme: &str, secrets: &str) -> Verifier {
    let scheme: Scheme = scheme.parse().unwrap();
    let secrets = Secrets::parse(&scheme, secrets).unwrap();
    Verifier::new(scheme, secrets)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn the_example_of_standard_webhooks_is_accepted_and_no_change_of_it() {
    // The example that libraries of Standard Webhooks share.
    let (id, time, body) =
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#.as_slice());
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let now = at(1_614_265_330);
    let all = |prefix: &str, id: &str, time: &str, signature: &str| {
        let name = |it| format!("{prefix}-{it}");
        headers(&[(&name("id"), id), (&name("timestamp"), time), (&name("signature"), signature)])
    };
    let it = verifier("standard", STANDARD);
    for prefix in ["webhook", "svix"] {
        assert_eq!(it.verify(&all(prefix, id, time, signature), body, now), Ok(()));
    }
    let several = format!("v1a,AAAA v1,AAAA v1,!! {signature}");
    assert_eq!(it.verify(&all("webhook", id, time, &several), body, now), Ok(()));
    assert_eq!(
        verifier("standard", &format!("{OTHER}\n{STANDARD}")).verify(
            &all("webhook", id, time, signature),
            body,
            now
        ),
        Ok(())
    );
    let refused = |headers: HeaderMap, body: &[u8]| it.verify(&headers, body, now).unwrap_err();
    assert_eq!(refused(all("webhook", "msg_x", time, signature), body), BadSignature::NotOurs);
    assert_eq!(refused(all("webhook", id, "1614265331", signature), body), BadSignature::NotOurs);
    assert_eq!(refused(all("webhook", id, time, signature), b"{}"), BadSignature::NotOurs);
    assert_eq!(refused(all("webhook", id, time, "v1a,AAAA"), body), BadSignature::Unreadable);
    assert_eq!(refused(headers(&[("webhook-id", id)]), body), BadSignature::Unreadable);
    let mut twice = all("webhook", id, time, signature);
    twice.append("webhook-timestamp", time.parse().unwrap());
    assert_eq!(refused(twice, body), BadSignature::Unreadable);
    assert_eq!(
        verifier("standard", OTHER).verify(&all("webhook", id, time, signature), body, now),
        Err(BadSignature::NotOurs)
    );
}

#[test]
fn the_time_counts_to_the_second_in_both_directions() {
    let secret = crate::Secret::standard(STANDARD).unwrap();
    let time = AT.to_string();
    let signature = secret.sign("evt_1", AT, BODY);
    let all =
        headers(&[("webhook-id", "evt_1"), ("webhook-timestamp", &time), ("webhook-signature", &signature)]);
    let it = verifier("standard", STANDARD);
    for (now, said) in [
        (AT, Ok(())),
        (AT + 300, Ok(())),
        (AT - 300, Ok(())),
        (AT + 301, Err(BadSignature::TooOld)),
        (AT - 301, Err(BadSignature::TooNew)),
    ] {
        assert_eq!(it.verify(&all, BODY, at(now)), said, "{now}");
    }
    let short = it.tolerance(Duration::from_secs(10));
    assert_eq!(short.verify(&all, BODY, at(AT + 11)), Err(BadSignature::TooOld));
}

/// `printf '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_of_stripe`
const STRIPE_HEX: &str = "087d6e36a3bcbd02505389f7761cd92b32c0809c58c58a1ee45da762e9ebfdda";
/// `printf '{"id":"evt_1"}' | openssl dgst -sha256 -hmac "it's a secret"`
const GITHUB_HEX: &str = "aefaa47a2f995abc055bbf58bb9b30454da9a5ba477846b23598cd1ed4e070a0";

#[test]
fn what_stripe_sends_is_accepted_and_no_change_of_it() {
    let it = verifier("stripe", "another secret\nwhsec_of_stripe");
    let said =
        |line: &str, body: &[u8], now| it.verify(&headers(&[("stripe-signature", line)]), body, at(now));
    let good = format!("t={AT},v1={STRIPE_HEX},v0=00");
    assert_eq!(said(&good, BODY, AT), Ok(()));
    assert_eq!(said(&format!("t={AT}, v1=00, v1={STRIPE_HEX}"), BODY, AT), Ok(()));
    assert_eq!(said(&good, b"{}", AT), Err(BadSignature::NotOurs));
    assert_eq!(said(&good, BODY, AT + 301), Err(BadSignature::TooOld));
    assert_eq!(said(&format!("t={},v1={STRIPE_HEX}", AT + 1), BODY, AT), Err(BadSignature::NotOurs));
    for unreadable in
        ["", "v1=00", &format!("t={AT}"), &format!("t={AT},v0={STRIPE_HEX}"), &format!("t=1,{good}")]
    {
        assert_eq!(said(unreadable, BODY, AT), Err(BadSignature::Unreadable), "{unreadable}");
    }
    let none = it.verify(&headers(&[]), BODY, at(AT));
    assert_eq!(none, Err(BadSignature::Unreadable));
}

#[test]
fn what_github_sends_is_accepted_and_no_change_of_it() {
    let it = verifier("github", "it's a secret");
    let said = |line: &str, body: &[u8]| it.verify(&headers(&[("x-hub-signature-256", line)]), body, at(AT));
    assert_eq!(said(&format!("sha256={GITHUB_HEX}"), BODY), Ok(()));
    assert_eq!(said(&format!("sha256={GITHUB_HEX}"), b"{}"), Err(BadSignature::NotOurs));
    assert_eq!(said(&format!("sha1={GITHUB_HEX}"), BODY), Err(BadSignature::Unreadable));
    // Less than a whole signature is none, however right it is.
    assert_eq!(said(&format!("sha256={}", &GITHUB_HEX[..32]), BODY), Err(BadSignature::NotOurs));
    assert_eq!(said("sha256=", BODY), Err(BadSignature::NotOurs));
    let own = verifier("github:x-acme", "it's a secret");
    let line = headers(&[("x-acme", &format!("sha256={GITHUB_HEX}"))]);
    assert_eq!(own.verify(&line, BODY, at(AT)), Ok(()));
}
