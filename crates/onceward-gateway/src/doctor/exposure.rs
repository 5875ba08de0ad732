//! Who can reach what, and whom the gateway believes.

use onceward_admin::{Finding, Level};

use super::Facts;
use super::finding::{found, ok};

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let it = &facts.settings;
    let mut findings = Vec::new();
    if it.admin.listen.ip().is_loopback() {
        findings.push(ok(
            "exposure-admin",
            format!("the admin API is on {}, this machine only", it.admin.listen),
        ));
    } else {
        let says = format!(
            "the admin API listens on {} without TLS: who can listen in on the network learns the token, and \
             with it changes records",
            it.admin.listen
        );
        let remedy =
            "bind it to 127.0.0.1, or see to it that only operators and the metrics collector reach it";
        findings.push(found(Level::Warning, "exposure-admin", "admin.listen", says, remedy));
    }
    if !it.listen.ip().is_loopback() && !it.tls.is_on() {
        let says = format!(
            "callers reach {} without TLS: their credentials, keys and bodies can be read",
            it.listen
        );
        let remedy =
            "set tls.cert and tls.key, or put a proxy with TLS in front on the same machine or network";
        findings.push(found(Level::Notice, "exposure-listen", "tls.cert", says, remedy));
    }
    if it.upstream.trust_forwarded {
        let says = "X-Forwarded-Proto and X-Forwarded-Host are taken as callers send them";
        let remedy = "keep it only where every caller comes through a proxy that writes both itself";
        findings.push(found(Level::Notice, "exposure-forwarded", "upstream.trust_forwarded", says, remedy));
    }
    let plain = |it: &&http::Uri| {
        let host = it.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local = host == "localhost" || host.parse().is_ok_and(|it: std::net::IpAddr| it.is_loopback());
        it.scheme_str() == Some("http") && !is_local
    };
    for url in it.upstream.urls.iter().filter(plain) {
        let says =
            format!("{url} is spoken to without TLS: credentials and bodies cross the network in clear");
        let remedy = "use https:// unless that network is yours alone";
        findings.push(found(Level::Notice, "exposure-upstream", "upstream.urls", says, remedy));
    }
    if it.cors.origins.iter().any(|it| it == "*") {
        let says = "every web page may read refusals and replay marks of the gateway";
        findings.push(found(
            Level::Notice,
            "exposure-cors",
            "cors.origins",
            says,
            "name the origins of your own pages",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::doctor::tests::{expect, facts};

    #[test]
    fn what_others_can_reach_is_said() {
        let admin = "ok exposure-admin";
        for (settings, expected) in [
            ("", vec![admin]),
            ("[admin]\nlisten = \"0.0.0.0:8081\"", vec!["warning exposure-admin admin.listen"]),
            ("listen = \"0.0.0.0:8080\"", vec![admin, "notice exposure-listen tls.cert"]),
            ("listen = \"0.0.0.0:8080\"\n[tls]\ncert = \"a\"\nkey = \"b\"", vec![admin]),
            ("[cors]\norigins = [\"*\"]", vec![admin, "notice exposure-cors cors.origins"]),
        ] {
            expect(check, &facts(settings), &expected);
        }
        let mut facts = facts("");
        facts.settings.upstream.trust_forwarded = true;
        expect(check, &facts, &[admin, "notice exposure-forwarded upstream.trust_forwarded"]);
        facts.settings.upstream.trust_forwarded = false;
        for (url, is_said) in [
            ("http://[::1]:1", false),
            ("http://localhost", false),
            ("https://api.example", false),
            ("http://api.example", true),
        ] {
            facts.settings.upstream.urls = vec![url.parse().unwrap()];
            let said = ["notice exposure-upstream upstream.urls"].into_iter().filter(|_| is_said);
            expect(check, &facts, &[admin].into_iter().chain(said).collect::<Vec<_>>());
        }
    }
}
