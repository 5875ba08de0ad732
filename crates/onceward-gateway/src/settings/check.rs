//! What must hold between settings that are each right for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use onceward_http::CorsPolicy;

use super::error::{Place, Problem};
use super::units::show_duration;
use super::{KeyRule, KeySource, Policy, Protocol, Route, Settings};

type Places = BTreeMap<String, Place>;

/// Everything that does not go together.
pub(super) fn problems(settings: &Settings, places: &Places) -> Vec<Problem> {
    let mut found = Found { places, problems: Vec::new() };
    found.upstream(settings);
    found.listeners(settings);
    found.tls(settings);
    found.cors(settings);
    let timeout = settings.upstream.response_timeout;
    found.policy("policy", &settings.policy, timeout, None);
    for (at, route) in settings.routes.iter().enumerate() {
        found.policy(&format!("route[{at}]"), &route.policy, timeout, Some(&settings.policy));
    }
    found.problems
}

/// What may be meant, but probably is not.
pub(super) fn warnings(settings: &Settings, places: &Places) -> Vec<String> {
    let hidden_by = |at: usize, route: &Route| {
        let covers = |earlier: &Route| {
            earlier.path.covers(&route.path) && route.methods.iter().all(|it| earlier.methods.contains(it))
        };
        settings.routes[..at].iter().position(covers)
    };
    let warning = |(at, route): (usize, &Route)| {
        let by = hidden_by(at, route)?;
        let place = places.get(&format!("route[{at}]")).map_or(String::new(), |place| format!("{place}: "));
        let (path, wide) = (&route.path, &settings.routes[by].path);
        Some(format!("{place}route[{at}] ({path}) is never reached: route[{by}] ({wide}) comes first"))
    };
    settings.routes.iter().enumerate().filter_map(warning).collect()
}

struct Found<'a> {
    places: &'a Places,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn upstream(&mut self, settings: &Settings) {
        if settings.upstream.urls.is_empty() {
            let says = "none given; add `--upstream http://HOST:PORT` or `[upstream] urls = […]`";
            self.problem("upstream.urls", "", says.into());
        }
        let upstream = &settings.upstream;
        for (at, url) in upstream.urls.iter().enumerate() {
            if upstream.urls[..at].contains(url) {
                self.problem("upstream.urls", "", format!("{url} is named twice; name each upstream once"));
            }
            let is_tls = url.scheme_str() == Some("https");
            let says = match upstream.protocol {
                Protocol::H2c if is_tls => format!("h2c is HTTP/2 without TLS, and {url} has TLS; write h2"),
                Protocol::H2 if !is_tls => format!("h2 needs TLS, and {url} has none; write h2c"),
                Protocol::Auto | Protocol::Http1 | Protocol::H2 | Protocol::H2c => continue,
            };
            self.problem("upstream.protocol", "upstream.urls", says);
        }
        if upstream.eject_max < upstream.eject {
            let (is, least) = (show_duration(upstream.eject_max), show_duration(upstream.eject));
            let says = format!("{is} is too short; it must be at least upstream.eject, which is {least}");
            self.problem("upstream.eject_max", "upstream.eject", says);
        }
    }

    fn tls(&mut self, settings: &Settings) {
        let is_empty = |it: &std::path::PathBuf| it.as_os_str().is_empty();
        match (is_empty(&settings.tls.cert), is_empty(&settings.tls.key)) {
            (false, true) => {
                self.problem("tls.key", "tls.cert", "not given; tls.cert needs the key that fits it".into());
            }
            (true, false) => {
                self.problem("tls.cert", "tls.key", "not given; tls.key needs the chain that it fits".into());
            }
            (true, true) | (false, false) => {}
        }
    }

    fn cors(&mut self, settings: &Settings) {
        let cors = &settings.cors;
        if let Err(error) = CorsPolicy::new(cors.origins.iter().cloned(), cors.credentials) {
            self.problem("cors.origins", "", error.to_string());
        }
        if cors.credentials && cors.origins.is_empty() {
            let says = "means nothing without cors.origins; name the origins";
            self.problem("cors.credentials", "", says.into());
        }
    }

    fn listeners(&mut self, settings: &Settings) {
        if settings.listen == settings.admin.listen && settings.listen.port() != 0 {
            let says = format!("{} is taken by listen; give admin.listen a port of its own", settings.listen);
            self.problem("admin.listen", "listen", says);
        }
    }

    /// Judges the policy in the table `at`. What it only inherits from `base` was judged there.
    fn policy(&mut self, at: &str, policy: &Policy, response_timeout: Duration, base: Option<&Policy>) {
        let times = |it: &Policy| (it.run_max, it.lease);
        if base.map(times) != Some(times(policy)) {
            let key = "upstream.response_timeout";
            self.run_max(at, policy, key, key, response_timeout);
            self.run_max(at, policy, "lease", &format!("{at}.lease"), policy.lease);
        }
        let signed = |it: &Policy| {
            let window = it.retention + it.tombstone;
            (
                it.key,
                it.key_from.clone(),
                it.verify.clone(),
                it.verify_secret_file.clone(),
                it.verify_tolerance,
                window,
            )
        };
        if base.map(signed) != Some(signed(policy)) {
            self.signed(at, policy);
        }
        let statuses = |it: &Policy| (it.release_on.clone(), it.unknown_on.clone());
        if base.map(statuses) != Some(statuses(policy)) {
            self.statuses(at, policy);
        }
    }

    fn signed(&mut self, at: &str, policy: &Policy) {
        let (of, file) = (format!("{at}.verify"), format!("{at}.verify_secret_file"));
        let Some(scheme) = &policy.verify else {
            if !policy.verify_secret_file.as_os_str().is_empty() {
                let says = "means nothing without verify; say how the sender signs";
                self.problem(&file, "", says.into());
            }
            return;
        };
        if policy.verify_secret_file.as_os_str().is_empty() {
            let says = "not given; verify needs the secrets of the sender";
            self.problem(&file, &of, says.into());
        }
        if policy.key == KeyRule::Ignored {
            let says =
                "needs keys, and key = \"ignored\" lets everything pass unverified; write key = \"required\"";
            self.problem(&of, &format!("{at}.key"), says.into());
        }
        if policy.key_from == KeySource::IdempotencyKey {
            let usual = scheme.usual_id();
            let says =
                format!("not given; name where the sender has the id of the event, usually \"{usual}\"");
            self.problem(&format!("{at}.key_from"), &of, says);
        }
        let (tolerance, window) = (policy.verify_tolerance, policy.retention + policy.tombstone);
        if tolerance * 2 > window {
            let says = format!(
                "{} each way is too long: what was done is known for {} only, and then runs again for whoever recorded it",
                show_duration(tolerance),
                show_duration(window)
            );
            self.problem(&format!("{at}.verify_tolerance"), &of, says);
        }
    }

    fn run_max(&mut self, at: &str, policy: &Policy, name: &str, key: &str, least: Duration) {
        if policy.run_max <= least {
            let (is, least) = (show_duration(policy.run_max), show_duration(least));
            let says = format!("{is} is too short; it must exceed {name}, which is {least}");
            self.problem(&format!("{at}.run_max"), key, says);
        }
    }

    fn statuses(&mut self, at: &str, policy: &Policy) {
        for status in policy.release_on.intersection(&policy.unknown_on) {
            // The list that was written here is the one to change.
            let (key, other) = match self.places.contains_key(&format!("{at}.release_on")) {
                true => ("release_on", "unknown_on"),
                false => ("unknown_on", "release_on"),
            };
            let says =
                format!("{status} is in {other} too; a status means one thing, so keep it in one list");
            self.problem(&format!("{at}.{key}"), "", says);
        }
    }

    /// A key that nobody set is placed at the `other` key it clashes with.
    fn problem(&mut self, key: &str, other: &str, says: String) {
        let place = self.places.get(key).or_else(|| self.places.get(other)).cloned();
        self.problems.push(Problem { place: place.unwrap_or(Place::Default), key: key.into(), says });
    }
}
