//! Connections that messages are published over. No group is made for them: one that nobody reads in would wait for ever.

use std::sync::Arc;

use onceward_core::Result;
use redis::{Cmd, RedisError};
use tokio::sync::Mutex;

use super::door::{Door, Link, moved};
use super::translate;

const PUBLISH: &str = "publish a message";

type Node = (String, u16);

/// At most one connection for each node of a Cluster, and the first. The one that was used last is asked first: most publish to
/// one stream, which lies at one node.
#[derive(Debug, Default)]
pub(super) struct Writing(Mutex<Vec<(Option<Node>, Arc<Link>)>>);

impl Writing {
    /// Carries the command out at the node that has its stream.
    pub(super) async fn carry(&self, door: &Door, command: &Cmd) -> Result<()> {
        let link = self.link(door).await?;
        let error = match self.send(&link, command).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let Some(node) = moved(&error) else { return Err(translate(PUBLISH, error)) };
        let link = self.link_to(node, door).await?;
        self.send(&link, command).await.map_err(|it| translate(PUBLISH, it))
    }

    /// The connection that was used last.
    async fn link(&self, door: &Door) -> Result<Arc<Link>> {
        let mut links = self.0.lock().await;
        if let Some((_, link)) = links.last() {
            return Ok(Arc::clone(link));
        }
        let link = door.open(PUBLISH).await?;
        links.push((None, Arc::clone(&link)));
        Ok(link)
    }

    /// The connection to the node, which from now on is the one that was used last.
    async fn link_to(&self, node: Node, door: &Door) -> Result<Arc<Link>> {
        let mut links = self.0.lock().await;
        let known = links.iter().position(|(at, _)| at.as_ref() == Some(&node));
        let link = match known {
            Some(known) => links.remove(known).1,
            None => door.follow(&node, PUBLISH).await?,
        };
        links.push((Some(node), Arc::clone(&link)));
        Ok(link)
    }

    /// Sends it once. A connection that failed is not used again.
    async fn send(&self, link: &Arc<Link>, command: &Cmd) -> std::result::Result<(), RedisError> {
        let told = command.query_async::<String>(&mut link.connection()).await;
        if told.as_ref().is_err_and(|it| moved(it).is_none()) {
            self.0.lock().await.retain(|(_, it)| !Arc::ptr_eq(it, link));
        }
        told.map(drop)
    }
}
