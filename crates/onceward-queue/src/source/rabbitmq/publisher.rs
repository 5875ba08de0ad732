//! Publishing, on a connection of its own: a broker that is short of memory stops those who publish, and shall still hear
//! what was done.

use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use onceward_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use super::open::{connect, short, translate};
use super::properties;
use super::settings::RabbitSettings;
use crate::message::Message;

/// How long a confirmation is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many channels wait for their next message.
const IDLE_MAX: usize = 32;

const DOING: &str = "publish a message";

/// Publishes one message at a time on each channel: what a broker returns is then told apart.
pub(super) struct Publisher {
    settings: RabbitSettings,
    connection: Mutex<Option<Connection>>,
    idle: StdMutex<Vec<Channel>>,
}

impl Publisher {
    pub(super) fn new(settings: RabbitSettings) -> Self {
        Self { settings, connection: Mutex::default(), idle: StdMutex::default() }
    }

    pub(super) async fn publish(&self, message: &Message) -> Result<()> {
        let (exchange, routing_key) = (short(&self.settings.exchange)?, short(&message.topic)?);
        let properties = properties::write(message, &self.settings.order_by)?;
        // It is dropped with its message when this is dropped, or fails.
        let channel = self.channel().await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let uncertain = |it| translate(DOING, it, ErrorKind::Uncertain);
        let published = channel
            .basic_publish(exchange, routing_key, options, &message.body, properties)
            .await
            .map_err(uncertain)?;
        let late = |it| Error::new(ErrorKind::Uncertain, DOING).caused_by(it);
        let outcome = tokio::time::timeout(PATIENCE, published).await.map_err(late)?.map_err(uncertain)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(channel);
        }
        drop(idle);
        match outcome {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                let what = "publish a message: no queue takes it";
                let cause = format!("{} {}", returned.reply_code, returned.reply_text);
                Err(Error::new(ErrorKind::Invalid, what).caused_by(cause))
            }
            Confirmation::Nack(None) => {
                Err(Error::new(ErrorKind::Unavailable, DOING).caused_by("the broker did not take it"))
            }
            Confirmation::NotRequested => {
                Err(Error::new(ErrorKind::Uncertain, DOING).caused_by("the broker does not confirm"))
            }
        }
    }

    /// A channel that confirms, and that nobody else uses.
    async fn channel(&self) -> Result<Channel> {
        let unavailable = |it| translate(DOING, it, ErrorKind::Unavailable);
        let mut kept = self.connection.lock().await;
        if kept.as_ref().is_none_or(|it| !it.status().connected()) {
            self.forget_idle();
            *kept = Some(connect(&self.settings, DOING).await?);
        }
        let connection = kept.as_ref().expect("it was just made");
        if connection.status().blocked() {
            let what = "the broker is short of memory or of disk";
            return Err(Error::new(ErrorKind::Unavailable, DOING).caused_by(what));
        }
        while let Some(channel) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = connection.create_channel().await.map_err(unavailable)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(unavailable)?;
        Ok(channel)
    }

    fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) async fn close(&self) {
        self.forget_idle();
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = connection.close(200, "the publisher stops".into()).await;
        }
    }
}
