//! Whether the upstreams can be reached from here.

use onceward_admin::{Finding, Level};

use super::Facts;
use super::finding::{found, ok};

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(upstreams) = &facts.upstreams else {
        let says = "the upstreams were not asked";
        return vec![found(
            Level::Notice,
            "upstream-reachable",
            "upstream.urls",
            says,
            "leave --offline away",
        )];
    };
    let none = upstreams.iter().all(|it| it.outcome.is_err());
    let finding = |it: &super::Reached| match &it.outcome {
        Ok(address) => ok("upstream-reachable", format!("{} takes connections at {address}", it.url)),
        Err(reason) => {
            let level = if none { Level::Error } else { Level::Warning };
            let says = format!("{} cannot be reached: {reason}", it.url);
            let remedy = "start it, correct the URL, or open the way; meanwhile its operations are refused (502) \
                          and their keys stay free";
            found(level, "upstream-reachable", "upstream.urls", says, remedy)
        }
    };
    upstreams.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::doctor::Reached;
    use crate::doctor::tests::{expect, facts};

    #[test]
    fn an_upstream_that_cannot_be_reached_is_an_error_when_it_is_the_last() {
        let reached = |is: bool| Reached {
            url: "http://a".into(),
            outcome: if is { Ok("127.0.0.1:1".parse().unwrap()) } else { Err("refused".into()) },
        };
        let (fine, away) = ("ok upstream-reachable", "warning upstream-reachable upstream.urls");
        let dead = "error upstream-reachable upstream.urls";
        let mut facts = facts("");
        expect(check, &facts, &["notice upstream-reachable upstream.urls"]);
        for (all, expected) in [
            (vec![true], vec![fine]),
            (vec![true, false], vec![fine, away]),
            (vec![false, false], vec![dead, dead]),
        ] {
            facts.upstreams = Some(all.into_iter().map(reached).collect());
            expect(check, &facts, &expected);
        }
    }
}
