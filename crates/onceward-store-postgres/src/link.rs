//! One connection, driven by whoever uses it: no task of its own, so a lone call crosses no other.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use futures_util::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, Row};

use crate::fault::{Cause, Fault};
use crate::puts::Values;
use crate::replicas::{CaughtUp, Doubts};

/// A connection to the server.
pub(crate) struct Link {
    client: Client,
    connection: Box<dyn Drive>,
    /// Why the connection ended, once it did.
    ended: Option<Cause>,
    /// Whether the server said that it gave up waiting for its replicas: what it then calls done, they may not have.
    gave_up_replicas: bool,
    pub(crate) caught_up: CaughtUp,
    doubts: Doubts,
    /// Which of the dialer's hosts it leads to.
    pub(crate) host: usize,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// A connection of the driver, over whatever stream.
trait Drive: Send {
    fn poll_drive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>>;
}

impl<S, T> Drive for Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll_drive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> {
        self.poll_message(cx)
    }
}

impl Link {
    /// What the driver has just connected to this host.
    pub(crate) fn over<S, T>(
        client: Client,
        connection: Connection<S, T>,
        host: usize,
        doubts: Doubts,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self {
            client,
            connection: Box::new(connection),
            ended: None,
            gave_up_replicas: false,
            caught_up: CaughtUp::new(doubts.clone()),
            doubts,
            host,
        }
    }

    /// Carries out one statement in one round trip, and waits until the server says that it is committed.
    pub(crate) async fn rows(
        &mut self,
        text: &str,
        values: &Values<'_>,
        deadline: Instant,
    ) -> Result<Vec<Row>, Fault> {
        if let Some(cause) = &self.ended {
            return Err(Fault::Unsent(cause.clone()));
        }
        let values: Vec<_> =
            values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
        self.gave_up_replicas = false;
        let Self { client, connection, ended, gave_up_replicas, .. } = self;
        let asking = async {
            let rows = client.query_typed_raw(text, values).await?;
            rows.try_collect::<Vec<_>>().await
        };
        let asked = drive(&mut **connection, ended, gave_up_replicas, asking);
        let rows = match tokio::time::timeout_at(deadline, asked).await {
            Ok(Some(Ok(rows))) => rows,
            Ok(Some(Err(error))) => {
                let fault = Fault::of(&error);
                if fault.ends_the_link() {
                    self.doubts.arise();
                }
                // Where the connection knows more than that it is closed.
                return Err(match (fault, ended) {
                    (Fault::Lost(_), Some(cause)) => Fault::Lost(cause.clone()),
                    (fault, _) => fault,
                });
            }
            Ok(None) => {
                self.doubts.arise();
                return Err(Fault::Lost(ended.clone().unwrap_or_else(closed)));
            }
            Err(_) => {
                let cause = Cause("the server did not answer in time".to_owned());
                *ended = Some(cause.clone());
                return Err(Fault::Lost(cause));
            }
        };
        if *gave_up_replicas {
            self.doubts.arise();
            return Err(Fault::Lost(Cause("the server gave up waiting for its replicas".to_owned())));
        }
        Ok(rows)
    }

    /// Carries out several statements that take no values, as one message.
    pub(crate) async fn batch(&mut self, text: &str, deadline: Instant) -> Result<(), Fault> {
        let Self { client, connection, ended, gave_up_replicas, .. } = self;
        let asked = drive(&mut **connection, ended, gave_up_replicas, client.batch_execute(text));
        match tokio::time::timeout_at(deadline, asked).await {
            Ok(Some(done)) => done.map_err(|it| Fault::of(&it)),
            Ok(None) => Err(Fault::Lost(ended.clone().unwrap_or_else(closed))),
            Err(_) => Err(Fault::Lost(Cause("the server did not answer in time".to_owned()))),
        }
    }

    /// Waits for `future` while nothing is asked; `None` when the connection ends first.
    pub(crate) async fn meanwhile<F: Future>(&mut self, future: F) -> Option<F::Output> {
        if self.ended.is_some() {
            return None;
        }
        drive(&mut *self.connection, &mut self.ended, &mut self.gave_up_replicas, future).await
    }

    /// Why it ended.
    pub(crate) fn ended(&self) -> Option<&Cause> {
        self.ended.as_ref()
    }
}

fn closed() -> Cause {
    Cause("the server closed the connection".to_owned())
}

/// Polls `future` and the connection by turns until the future is done. `None` when the connection ends and the
/// future still waits.
async fn drive<F: Future>(
    connection: &mut dyn Drive,
    ended: &mut Option<Cause>,
    gave_up_replicas: &mut bool,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut asked = false;
    poll_fn(move |cx| {
        // What is asked comes first into the connection's queue, then it is written.
        if !asked {
            asked = true;
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
        }
        while ended.is_none() {
            match connection.poll_drive(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                    *gave_up_replicas |= notice.routine() == Some("SyncRepWaitForLSN");
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => *ended = Some(Cause::of(&error)),
                Poll::Ready(None) => *ended = Some(closed()),
            }
        }
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if ended.is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
