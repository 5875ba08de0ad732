//! The upstreams of one version of the settings.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::node::Node;
use super::roster::{Id, Rule};
use super::settings::{InvalidSetting, Target, UpstreamSettings};
use super::tls::Tls;

/// The upstreams, and how they are used.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) settings: UpstreamSettings,
    pub(super) nodes: Vec<Arc<Node>>,
    /// Kept for a set after this one that needs the same.
    tls: Option<Arc<Tls>>,
    /// Ends the checks of this set.
    pub(super) checks: CancellationToken,
}

impl Set {
    /// Nodes of `before` that have not changed are taken over with all they have.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub(super) fn new(
        settings: UpstreamSettings,
        before: Option<&Self>,
        next_id: &mut Id,
        tracker: &TaskTracker,
        closed: &CancellationToken,
    ) -> Result<Self, InvalidSetting> {
        settings.check()?;
        let targets = settings.targets()?;
        let tls = if targets.iter().any(Target::is_tls) {
            let loaded = Tls::load(settings.ca_file.as_deref(), settings.protocol)?;
            let same = before.and_then(|it| it.tls.clone()).filter(|it| **it == loaded);
            Some(same.unwrap_or_else(|| Arc::new(loaded)))
        } else {
            None
        };
        let nodes = targets.into_iter().map(|target| {
            let tls = tls.as_ref().filter(|_| target.is_tls());
            let mut known = before.into_iter().flat_map(|it| &it.nodes);
            if let Some(known) = known.find(|it| it.is(&target, settings.protocol, tls)) {
                return Arc::clone(known);
            }
            *next_id += 1;
            let (tls, closed) = (tls.cloned(), closed.child_token());
            Arc::new(Node::new(*next_id, target, settings.protocol, tls, tracker, closed))
        });
        Ok(Self { nodes: nodes.collect(), settings, tls, checks: closed.child_token() })
    }

    /// Closes the nodes that `next` has not.
    pub(super) fn give_way_to(&self, next: &Self) {
        self.checks.cancel();
        for gone in self.nodes.iter().filter(|it| !next.nodes.iter().any(|next| next.id == it.id)) {
            gone.close();
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        self.nodes.iter().map(|it| it.id)
    }

    pub(super) fn rule(&self) -> Rule {
        let it = &self.settings;
        let check_failures = it.check.as_ref().map(|_| it.check_failures);
        Rule { after: it.eject_after, pause: it.eject, pause_max: it.eject_max, check_failures }
    }
}
