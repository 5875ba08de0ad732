//! What the store says to a Redis server, word by word: overheard, and said again with another id.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use onceward_bench::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A listener that carries connections on to a server, and keeps what the clients say.
#[derive(Debug)]
pub(crate) struct Ear {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    _carriers: JoinSet<Result<()>>,
}

/// What was said on each connection, and on which of them last.
#[derive(Debug, Default)]
struct Heard {
    connections: Vec<Vec<u8>>,
    last: usize,
}

impl Ear {
    pub(crate) async fn before(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, heard) = (listener.local_addr()?, Arc::<Mutex<Heard>>::default());
        let (to, mut carriers) = (Arc::clone(&heard), JoinSet::new());
        carriers.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (client, _) = listener.accept().await?;
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                to.lock().unwrap_or_else(PoisonError::into_inner).connections.push(Vec::new());
                connections.spawn(carry(client, server, number, Arc::clone(&to)));
            }
            Ok(())
        });
        Ok(Self { address, heard, _carriers: carriers })
    }

    /// The last command that was said, in its words.
    pub(crate) fn last(&self) -> Result<Vec<Vec<u8>>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let said = heard.connections.get(heard.last).ok_or("the store did not connect")?;
        let (mut rest, mut last) = (&said[..], None);
        while let Some((words, behind)) = command(rest) {
            (last, rest) = (Some(words), behind);
        }
        Ok(last.ok_or("the store said nothing")?)
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    number: usize,
    to: Arc<Mutex<Heard>>,
) -> Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.split(), server.split());
    let there = async {
        let mut some = vec![0; 1 << 16];
        loop {
            let length = from_client.read(&mut some).await?;
            if length == 0 {
                return Result::Ok(());
            }
            {
                let mut heard = to.lock().unwrap_or_else(PoisonError::into_inner);
                heard.last = number;
                heard.connections[number].extend_from_slice(&some[..length]);
            }
            to_server.write_all(&some[..length]).await?;
        }
    };
    tokio::select! {
        ended = there => ended,
        ended = copy(&mut from_server, &mut to_client) => Ok(ended.map(drop)?),
    }
}

/// The words of the first command, and what comes behind it; `None` where there is no whole one.
fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, &[u8])> {
    let (count, mut rest) = number(bytes, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, behind) = number(rest, b'$')?;
        words.push(behind.get(..length)?.to_vec());
        rest = behind.get(length + 2..)?;
    }
    Some((words, rest))
}

/// The number behind `mark`, and what comes behind its line.
fn number(bytes: &[u8], mark: u8) -> Option<(usize, &[u8])> {
    let end = bytes.windows(2).position(|it| it == b"\r\n")?;
    let text = bytes.get(..end)?.strip_prefix(&[mark])?;
    Some((std::str::from_utf8(text).ok()?.parse().ok()?, &bytes[end + 2..]))
}

/// The bytes of a command.
pub(crate) fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The answer to a claim or a completion that begins `bytes`: how long it is, and the revision in it. `None` where it is
/// not whole yet.
///
/// # Errors
/// It says that nothing was kept.
pub(crate) fn kept(bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>> {
    if bytes.first().is_some_and(|it| *it != b'$') {
        return Err("the server kept nothing".into());
    }
    let Some((length, line)) = number(bytes, b'$') else { return Ok(None) };
    let Some(text) = line.get(..length).filter(|_| line.len() >= length + 2) else { return Ok(None) };
    let revision = text.split(|it| *it == b' ').nth(1).ok_or("the line has no revision")?;
    Ok(Some((bytes.len() - line.len() + length + 2, revision.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_were_written_and_halves_are_not() {
        let words = [b"EVALSHA".to_vec(), b"a\r\n\0b".to_vec(), Vec::new()];
        let bytes = encode(&words);
        let both = [bytes.clone(), encode(&[b"PING".to_vec()])].concat();
        let (read, rest) = command(&both).unwrap();
        assert_eq!((read, command(rest).unwrap().0), (words.to_vec(), vec![b"PING".to_vec()]));
        assert!((0..bytes.len()).all(|it| command(&bytes[..it]).is_none()));
    }

    #[test]
    fn the_revision_of_what_was_kept_is_found_and_a_refusal_is_an_error() {
        let answer = b"$9\r\n1 77 77 x\r\n";
        assert_eq!(kept(answer).unwrap(), Some((answer.len(), b"77".to_vec())));
        assert!((0..answer.len()).all(|it| kept(&answer[..it]).unwrap().is_none()));
        assert!(kept(b"*3\r\n:0\r\n:5\r\n").is_err() && kept(b"-OOM x\r\n").is_err());
    }
}
