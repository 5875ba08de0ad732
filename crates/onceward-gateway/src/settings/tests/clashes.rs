//! What settings say that are wrong only together.

use super::{UPSTREAM, merge, refused};
use crate::settings::Flags;

#[test]
fn settings_that_do_not_go_together_are_refused() {
    refused("", "upstream.urls: none given; add `--upstream http://HOST:PORT` or `[upstream] urls = […]`");
    refused(
        "[upstream]\nurls = []",
        "gateway.toml:2: upstream.urls: none given; add `--upstream http://HOST:PORT` or `[upstream] urls = […]`",
    );
    refused(
        "[upstream]\nurls = [\"http://a\", \"http://b\", \"http://a\"]",
        "gateway.toml:2: upstream.urls: http://a/ is named twice; name each upstream once",
    );
    refused(
        "[upstream]\nurls = [\"https://a\"]\nprotocol = \"h2c\"",
        "gateway.toml:3: upstream.protocol: h2c is HTTP/2 without TLS, and https://a/ has TLS; write h2",
    );
    refused(
        "[upstream]\nurls = [\"http://a\"]\nprotocol = \"h2\"",
        "gateway.toml:3: upstream.protocol: h2 needs TLS, and http://a/ has none; write h2c",
    );
    refused(
        &format!("{UPSTREAM}eject = \"10m\"\n"),
        "gateway.toml:3: upstream.eject_max: 5m is too short; it must be at least upstream.eject, which is 10m",
    );
    refused(
        &format!("{UPSTREAM}[tls]\ncert = \"a.pem\"\n"),
        "gateway.toml:4: tls.key: not given; tls.cert needs the key that fits it",
    );
    refused(
        &format!("{UPSTREAM}[tls]\nkey = \"a.pem\"\n"),
        "gateway.toml:4: tls.cert: not given; tls.key needs the chain that it fits",
    );
    refused(
        &format!("{UPSTREAM}[cors]\norigins = [\"*\", \"https://a\"]\n"),
        "gateway.toml:4: cors.origins: `*` stands for every origin; name no others beside it",
    );
    refused(
        &format!("{UPSTREAM}[cors]\norigins = [\"*\"]\ncredentials = true\n"),
        "gateway.toml:4: cors.origins: with credentials every origin must be named; `*` would let any page read",
    );
    refused(
        &format!("{UPSTREAM}[cors]\ncredentials = true\n"),
        "gateway.toml:4: cors.credentials: means nothing without cors.origins; name the origins",
    );
    refused(
        &format!("listen = \"127.0.0.1:80\"\n{UPSTREAM}[admin]\nlisten = \"127.0.0.1:80\"\n"),
        "gateway.toml:5: admin.listen: 127.0.0.1:80 is taken by listen; give admin.listen a port of its own",
    );
    refused(
        &format!("listen = \"127.0.0.1:8081\"\n{UPSTREAM}"),
        "gateway.toml:1: admin.listen: 127.0.0.1:8081 is taken by listen; give admin.listen a port of its own",
    );
    let hooks = |more: &str| format!("{UPSTREAM}[[route]]\npath = \"/hooks\"\n{more}");
    refused(
        &hooks("key_from = \"json:/id\"\nverify = \"stripe\"\n"),
        "gateway.toml:6: route[0].verify_secret_file: not given; verify needs the secrets of the sender",
    );
    refused(
        &hooks("verify_secret_file = \"s\"\n"),
        "gateway.toml:5: route[0].verify_secret_file: means nothing without verify; say how the sender signs",
    );
    refused(
        &hooks("verify = \"github\"\nverify_secret_file = \"s\"\n"),
        "gateway.toml:5: route[0].key_from: not given; name where the sender has the id of the event, usually \
         \"header:x-github-delivery\"",
    );
    refused(
        &hooks(
            "key = \"ignored\"\nkey_from = \"json:/id\"\nverify = \"stripe\"\nverify_secret_file = \"s\"\n",
        ),
        "gateway.toml:7: route[0].verify: needs keys, and key = \"ignored\" lets everything pass unverified; \
         write key = \"required\"",
    );
    refused(
        &hooks(
            "key_from = \"json:/id\"\nverify = \"stripe\"\nverify_secret_file = \"s\"\nretention = \"1m\"\n\
             tombstone = \"8m\"\n",
        ),
        "gateway.toml:6: route[0].verify_tolerance: 5m each way is too long: what was done is known for 9m only, \
         and then runs again for whoever recorded it",
    );
    refused(
        &format!("{UPSTREAM}response_timeout = \"10m\"\n[[route]]\npath = \"/a\"\n"),
        "gateway.toml:3: policy.run_max: 10m is too short; it must exceed upstream.response_timeout, which is 10m",
    );
    refused(
        &format!("{UPSTREAM}[[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\nrun_max = \"30s\"\n"),
        "gateway.toml:7: route[1].run_max: 30s is too short; it must exceed lease, which is 30s\n\
         gateway.toml:7: route[1].run_max: 30s is too short; it must exceed upstream.response_timeout, which is 60s",
    );
    refused(
        &format!("{UPSTREAM}[[route]]\npath = \"/a\"\nlease = \"10m\"\n"),
        "gateway.toml:5: route[0].run_max: 10m is too short; it must exceed lease, which is 10m",
    );
    refused(
        &format!("{UPSTREAM}[policy]\nrelease_on = [401, 503]\n"),
        "gateway.toml:4: policy.release_on: 503 is in unknown_on too; a status means one thing, so keep it in one list",
    );
    refused(
        &format!("{UPSTREAM}[[route]]\npath = \"/a\"\nunknown_on = [429]\n"),
        "gateway.toml:5: route[0].unknown_on: 429 is in release_on too; \
         a status means one thing, so keep it in one list",
    );
}

#[test]
fn a_value_from_a_variable_is_blamed_on_the_variable() {
    let env = [("ONCEWARD_POLICY__RUN_MAX", "31s")];
    let error = merge(UPSTREAM, &env, &Flags::default()).unwrap_err();
    let expected = "ONCEWARD_POLICY__RUN_MAX: 31s is too short; \
                    it must exceed upstream.response_timeout, which is 60s";
    assert_eq!(error.to_string(), expected);
}
