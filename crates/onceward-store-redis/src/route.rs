//! Which server a call goes to, and how many calls may be under way.

use onceward_core::Result;
use redis::{Cmd, Value};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::fault;
use crate::inspect::Facts;
use crate::keys::Bucket;
use crate::node::{Call, Node};
use crate::open::OpenError;
use crate::script::{Script, Scripts};
use crate::wire::Dialer;

/// The way to every bucket of a store.
#[derive(Debug)]
pub(crate) struct Route {
    dialer: Arc<Dialer>,
    places: Semaphore,
    node: Node,
}

impl Route {
    pub(crate) async fn open(dialer: Arc<Dialer>) -> Result<Self, OpenError> {
        let places = Semaphore::new(dialer.settings.max_queue);
        let first = dialer.settings.servers.first().cloned();
        let address = first.ok_or_else(|| OpenError::Cluster { cause: "no server is named".to_owned() })?;
        let node = Node::open(Arc::clone(&dialer), address).await?;
        Ok(Self { dialer, places, node })
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.dialer.scripts
    }

    /// What is known of the servers; `None` while one is away.
    pub(crate) fn facts(&self) -> Option<Arc<Facts>> {
        self.node.facts()
    }

    /// Runs a script on the server that has `bucket`.
    ///
    /// # Errors
    /// `Unavailable`: nothing was sent, or it was refused. `Uncertain`: it may have been carried out.
    pub(crate) async fn call(
        &self,
        _bucket: &Bucket,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value> {
        let deadline = Instant::now() + self.dialer.settings.call_timeout;
        let _place = self.place(deadline).await?;
        let time = self.dialer.settings.time.as_ref().map(|it| (it.0)().as_millis().to_string());
        let mut arguments = arguments.to_vec();
        arguments.extend(time.as_ref().map(String::as_bytes));
        self.node.call(&Call { script, keys, arguments: &arguments }, deadline).await
    }

    /// Sends a plain command about `key`: used while a store is opened.
    pub(crate) async fn command(&self, _key: &str, command: &Cmd) -> Result<Value, OpenError> {
        let deadline = Instant::now() + self.dialer.settings.call_timeout;
        let refused = |cause| OpenError::Unreachable { address: self.node.address().to_string(), cause };
        match self.node.send(command, deadline).await {
            Ok(told) => told.map_err(|it| refused(fault::describe(&it))),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// A place among the calls under way. Who waits for one was not sent.
    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>> {
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(fault::crowded()),
        }
    }
}
