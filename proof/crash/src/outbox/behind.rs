//! What is behind the broker: `onceward consume`, and a handler that writes down everything it is given.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::{Field, PATIENCE, STREAM};
use crate::Result;
use crate::consume::broker::nothing_is_left;
use crate::request::Request;
use crate::time::until;

/// Takes each message as done. Its threads end with the process.
pub(super) struct Handler {
    address: SocketAddr,
    handled: Arc<Mutex<Vec<String>>>,
}

impl Handler {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, handled) = (listener.local_addr()?, Arc::<Mutex<Vec<String>>>::default());
        let book = Arc::clone(&handled);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                let book = Arc::clone(&book);
                thread::spawn(move || take_all(&stream, &book));
            }
        });
        Ok(Self { address, handled })
    }

    /// The bodies of all messages, in the order in which they were handled.
    pub(super) fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn take_all(stream: &TcpStream, book: &Mutex<Vec<String>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        book.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
    Ok(())
}

const NAME: &str = "sink";

/// A consumer that nobody disturbs: it is there to show what reaches whom it protects.
pub(super) struct Behind(Child);

impl Behind {
    pub(super) fn start(field: &Field<'_>, handler: &Handler) -> Result<Self> {
        let log = File::create(field.folder.join("consume.log"))?;
        let mut command = field.command();
        command
            .args(["consume", "--from", &field.stream(), "--name", NAME, "--key", "header:event-id"])
            .args(["--to", &format!("http://{}/on-effect", handler.address)])
            .args(["--store", "embedded:consumed?durability=relaxed", "--parallel", "32"]);
        Ok(Self(command.stdout(log.try_clone()?).stderr(log).spawn()?))
    }

    /// Waits until it has acknowledged everything, and ends it.
    pub(super) fn finish(mut self, field: &Field<'_>) -> Result<()> {
        let done = until(PATIENCE, || nothing_is_left(&field.broker, STREAM, NAME).then_some(()));
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let status = self.0.wait()?;
        match done {
            Some(()) if status.success() => Ok(()),
            Some(()) => Err(format!("the consumer ended with {status}").into()),
            None => Err("the consumer did not come to the end of the stream in time".into()),
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
