//! How callers hear: once their group is on the disk, and those that wait together are told together.
//!
//! Whoever waits on a runtime of one thread is woken by a system call, and then that runtime wakes up. A group answers
//! many who wait on the same few runtimes. So where the settings allow it, each of these runtimes is handed all of its
//! answers as one task, which tells them there: one wake-up for each group instead of one for each call.

use onceward_core::Result;
use onceward_core::store::{Insert, Replace, Swept};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::fault::Fault;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// What comes with a call until it is written.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The caller's place in the queue.
    pub(crate) place: OwnedSemaphorePermit,
    /// The runtime that it waits on, where that is to tell it.
    pub(crate) home: Option<Handle>,
}

/// The runtime that the caller runs on, if it has one thread.
pub(crate) fn home() -> Option<Handle> {
    Handle::try_current().ok().filter(|it| it.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

/// What one caller will be told once its group is written.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) told: Told,
    pub(crate) caller: Caller,
}

/// The result of a call, and where it goes.
#[derive(Debug)]
pub(crate) enum Told {
    Insert(Result<Insert>, Reply<Insert>),
    Replace(Result<Replace>, Reply<Replace>),
    Expire(Result<Swept>, Reply<Swept>),
    Check(Result<()>, Reply<()>),
}

impl Told {
    /// The group failed: that is what its caller will be told.
    fn break_by(&mut self, fault: &Fault) {
        match self {
            Self::Insert(result, _) => *result = Err(fault.error()),
            Self::Replace(result, _) => *result = Err(fault.error()),
            Self::Expire(result, _) => *result = Err(fault.error()),
            Self::Check(result, _) => *result = Err(fault.error()),
        }
    }

    fn send(self) {
        // A caller that left needs no answer.
        match self {
            Self::Insert(result, reply) => drop(reply.send(result)),
            Self::Replace(result, reply) => drop(reply.send(result)),
            Self::Expire(result, reply) => drop(reply.send(result)),
            Self::Check(result, reply) => drop(reply.send(result)),
        }
    }
}

/// Tells everybody of a group that is written, or failed. Blocks nowhere.
pub(crate) fn tell(promises: Vec<Promise>, fault: Option<&Fault>) {
    let mut homes: Vec<(Handle, Batch)> = Vec::new();
    for Promise { mut told, caller: Caller { place, home } } in promises {
        // Here and not where the answer is told: a runtime that is slow to run would keep others out of the queue.
        drop(place);
        if let Some(fault) = fault {
            told.break_by(fault);
        }
        match home {
            None => told.send(),
            Some(home) => match homes.iter_mut().find(|it| it.0.id() == home.id()) {
                Some((_, batch)) => batch.0.push(told),
                None => homes.push((home, Batch(vec![told]))),
            },
        }
    }
    for (home, batch) in homes {
        // Nobody has to wait for this task: it ends the first time that it runs, and a runtime that shuts down drops it
        // instead. A single answer goes its own way, which takes one wake-up, too.
        if batch.0.len() > 1 {
            drop(home.spawn(async move { drop(batch) }));
        }
    }
}

/// Answers on their way to one runtime. They are told when it is dropped, wherever that happens.
#[derive(Debug)]
struct Batch(Vec<Told>);

impl Drop for Batch {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Told::send);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use onceward_core::ErrorKind;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::Semaphore;
    use tokio::sync::oneshot::Receiver;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn promised(places: &Arc<Semaphore>, home: Option<Handle>) -> (Promise, Receiver<Result<()>>) {
        let (reply, answer) = oneshot::channel();
        let place = Arc::clone(places).try_acquire_owned().unwrap();
        (Promise { told: Told::Check(Ok(()), reply), caller: Caller { place, home } }, answer)
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn those_who_wait_together_are_told_by_one_task_of_their_runtime() {
        let (one, other, places) = (runtime(), runtime(), Arc::new(Semaphore::new(8)));
        let homes = [one.handle(), other.handle(), one.handle(), one.handle(), other.handle()];
        let (promises, mut answers): (Vec<_>, Vec<_>) =
            homes.into_iter().map(|it| promised(&places, Some(it.clone()))).unzip();
        tell(promises, None);
        assert_eq!(one.metrics().num_alive_tasks(), 1);
        assert_eq!(other.metrics().num_alive_tasks(), 1);
        assert!(answers.iter_mut().all(|it| matches!(it.try_recv(), Err(TryRecvError::Empty))));
        assert_eq!(
            places.available_permits(),
            8,
            "what is written has left the queue, whenever its caller hears"
        );
        one.block_on(tokio::task::yield_now());
        let told: Vec<_> = answers.iter_mut().map(|it| matches!(it.try_recv(), Ok(Ok(())))).collect();
        assert_eq!(told, [true, false, true, true, false], "another runtime runs by itself");
    }

    #[test]
    fn a_runtime_that_ends_tells_them_all_the_same() {
        for ends_before in [false, true] {
            let (runtime, places) = (runtime(), Arc::new(Semaphore::new(8)));
            let home = runtime.handle().clone();
            let (promises, mut answers): (Vec<_>, Vec<_>) =
                (0..3).map(|_| promised(&places, Some(home.clone()))).unzip();
            let mut runtime = Some(runtime);
            if ends_before {
                drop(runtime.take());
            }
            tell(promises, None);
            drop(runtime);
            assert!(answers.iter_mut().all(|it| matches!(it.try_recv(), Ok(Ok(())))), "{answers:?}");
        }
    }

    #[test]
    fn one_alone_and_one_without_a_runtime_are_told_at_once() {
        let (runtime, places) = (runtime(), Arc::new(Semaphore::new(8)));
        for home in [Some(runtime.handle().clone()), None] {
            let (promise, mut answer) = promised(&places, home);
            tell(vec![promise], None);
            assert!(matches!(answer.try_recv(), Ok(Ok(()))));
        }
        assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    }

    #[test]
    fn a_fault_is_told_to_everybody() {
        let (runtime, places) = (runtime(), Arc::new(Semaphore::new(8)));
        let home = Some(runtime.handle().clone());
        let (promises, mut answers): (Vec<_>, Vec<_>) =
            [home.clone(), home, None].into_iter().map(|it| promised(&places, it)).unzip();
        tell(promises, Some(&Fault::unsynced(&io::Error::other("the disk"))));
        runtime.block_on(tokio::task::yield_now());
        for answer in &mut answers {
            assert_eq!(answer.try_recv().unwrap().unwrap_err().kind(), ErrorKind::Uncertain);
        }
    }

    #[tokio::test]
    async fn only_a_runtime_of_one_thread_is_a_home() {
        assert_eq!(home().map(|it| it.id()), Some(Handle::current().id()));
        let many = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        assert!(many.spawn(async { home().is_none() }).await.unwrap());
        assert!(std::thread::spawn(|| home().is_none()).join().unwrap());
        many.shutdown_background();
    }
}
