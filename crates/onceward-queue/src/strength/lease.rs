//! Claim, effect, answer: the handler runs under a permit of the engine, and its effect lies wherever it likes.

use std::fmt;

use async_trait::async_trait;
use onceward_core::{Answer, Begin, ErrorKind, Permit, Result};

use crate::desk::{Case, Desk, Told, parked};
use crate::event::Event;
use crate::handler::{Failure, Handler, Handling};
use crate::outbox::Effects;
use crate::strength::{Strength, caught};
use crate::verdict::{After, Reason};

pub(crate) struct Leased {
    pub(crate) handler: Handler,
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").finish_non_exhaustive()
    }
}

#[async_trait]
impl Strength for Leased {
    async fn run(&self, desk: &Desk, case: &mut Case) -> Result<Told> {
        let permit = match desk.engine.begin(&case.attempt).await? {
            Begin::Run(permit) => permit,
            Begin::Replay(_) | Begin::Gone => {
                desk.observer.on(&Event::DuplicateOfDone);
                return Ok(Told::Over);
            }
            Begin::Busy { retry_after } => {
                desk.observer.on(&Event::DuplicateOfRunning);
                return Ok(Told::Again(retry_after));
            }
            Begin::Mismatch => return Ok(Told::Dead { reason: Reason::OtherPayload, attempts: 0 }),
            Begin::Unresolved => {
                let attempts = case.known.tries.count;
                return Ok(Told::Dead { reason: Reason::Unresolved, attempts });
            }
        };
        match desk.count(case.record, case.known, permit.attempt()).await {
            Ok((known, Some(attempt))) => {
                case.known = known;
                self.attempt(desk, case, permit, attempt).await
            }
            Ok((known, None)) => {
                let attempts = known.tries.count;
                give_up(desk, case, permit, Reason::Attempts, "its handler did not end", attempts).await
            }
            // Nothing ran.
            Err(error) => {
                permit.release().await?;
                Err(error)
            }
        }
    }
}

impl Leased {
    async fn attempt(&self, desk: &Desk, case: &Case, mut permit: Permit, attempt: u32) -> Result<Told> {
        let effects = Effects::default();
        let handling = Handling {
            message: case.delivery.message.clone(),
            key: case.attempt.key.clone(),
            fence: Some(permit.fence()),
            attempt,
            checkpoint: permit.checkpoint().cloned(),
            effects: effects.clone(),
        };
        desk.observer.on(&Event::Begun { attempt, took_over: permit.attempt() > 1 });
        let ended = permit.keep(caught(desk, (self.handler)(handling))).await;
        // However it ended: what somebody adds from now on would not go out, and is refused.
        let carried = effects.carried();
        let failure = match ended {
            Err(_lost) => return Ok(fenced(desk)),
            Ok(Ok(())) => {
                let answer = Answer::new("done", "");
                let stored = match carried {
                    None => permit.complete(answer).await,
                    Some(carried) => {
                        let stored = permit.complete_with(answer.clone(), carried).await;
                        if stored.as_ref().is_ok_and(|it| *it != answer) {
                            let record = case.record.prefix();
                            tracing::warn!(
                                record,
                                "somebody else said what became of a message; its effects do not go out"
                            );
                        }
                        stored
                    }
                };
                return match stored {
                    Ok(_) => {
                        desk.observer.on(&Event::Done);
                        Ok(Told::Over)
                    }
                    Err(error) if error.kind() == ErrorKind::Lost => Ok(fenced(desk)),
                    Err(error) => Err(error),
                };
            }
            Ok(Err(failure)) => failure,
        };
        let unresolved = case.attempt.policy.unresolved;
        match desk.judge(&failure, attempt, unresolved) {
            After::Again(pause) => {
                let nothing_happened = matches!(failure, Failure::Retry { .. });
                let ended =
                    if nothing_happened { permit.release().await } else { permit.abandon("failed").await };
                match ended {
                    Err(error) if error.kind() == ErrorKind::Lost => return Ok(fenced(desk)),
                    ended => ended?,
                }
                desk.postpone(case.record, case.known, pause).await
            }
            After::Park(Reason::Unresolved) => {
                // The letter first: it says why, and a copy that meets the record as it stands then does not know that.
                let record = Some(case.record);
                let parked =
                    desk.park(&case.delivery, record, Reason::Unresolved, failure.reason(), attempt).await;
                // The record stays unresolved: only whoever knows the far side can say what happened.
                match permit.abandon("its handler cannot say whether the effect happened").await {
                    Err(error) if error.kind() == ErrorKind::Lost => return Ok(fenced(desk)),
                    ended => ended?,
                }
                parked?;
                Ok(Told::Over)
            }
            After::Park(reason) => give_up(desk, case, permit, reason, failure.reason(), attempt).await,
        }
    }
}

/// Puts the message among the dead letters, then says so in its record.
async fn give_up(
    desk: &Desk,
    case: &Case,
    permit: Permit,
    reason: Reason,
    detail: &str,
    attempts: u32,
) -> Result<Told> {
    if let Err(error) = desk.park(&case.delivery, Some(case.record), reason, detail, attempts).await {
        // It is looked at again: after as many attempts as there may be it is parked before anything runs, and a handler that
        // refused it is asked once more.
        permit.release().await?;
        return Err(error);
    }
    match permit.complete(parked(reason)).await {
        Ok(_) => Ok(Told::Over),
        Err(error) if error.kind() == ErrorKind::Lost => Ok(fenced(desk)),
        Err(error) => Err(error),
    }
}

/// Another holder or an operator has the record: what stands is seen at the next look.
fn fenced(desk: &Desk) -> Told {
    desk.observer.on(&Event::Fenced);
    Told::Again(desk.retries.pause)
}
