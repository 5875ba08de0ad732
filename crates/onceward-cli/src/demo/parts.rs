//! The two processes of the demo: the payment API and the gateway.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::call::call;

/// How long a process may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// The payment API, as a process of its own. It ends with this value.
#[derive(Debug)]
pub(crate) struct Bank {
    _child: Child,
    /// What it says on; kept open, because a closed one would end it.
    _stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) url: String,
}

impl Bank {
    pub(crate) async fn start() -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["demo", "upstream", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("the payment API has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(START_PATIENCE, lines.next_line())
            .await
            .map_err(|_| io::Error::other("the payment API did not start in time"))??;
        let url = first
            .as_deref()
            .and_then(|it| it.strip_prefix("payment API listens on "))
            .ok_or_else(|| io::Error::other("the payment API did not say where it listens"))?
            .to_owned();
        Ok(Self { _child: child, _stdout: lines, url })
    }
}

/// The gateway, as a process of its own that can be killed and started again at the same address.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Option<Child>,
    upstream: String,
    folder: PathBuf,
    pub(crate) url: String,
    pub(crate) admin_url: String,
}

impl Gateway {
    /// Starts a gateway that keeps its records and its log in `folder`.
    pub(crate) async fn start(upstream: &str, folder: &Path) -> io::Result<Self> {
        let mut gateway = Self {
            child: None,
            upstream: upstream.to_owned(),
            folder: folder.to_owned(),
            url: format!("http://{}", free_address()?),
            admin_url: format!("http://{}", free_address()?),
        };
        gateway.start_again().await?;
        Ok(gateway)
    }

    /// Starts it at the same address, over the same records.
    pub(crate) async fn start_again(&mut self) -> io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let child = Command::new(std::env::current_exe()?)
            .args(["gateway", "--upstream", &self.upstream])
            .args(["--listen", self.url.trim_start_matches("http://")])
            .args(["--admin", self.admin_url.trim_start_matches("http://")])
            .args(["--store", &format!("embedded:{}", self.folder.join("records").display())])
            // What this shell sets for another gateway is not meant for this one.
            .env_clear()
            .env("ONCEWARD_POLICY__LEASE", "2s")
            .env("ONCEWARD_DRAIN_DELAY", "0s")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        let ready = async {
            let health = format!("{}/readyz", self.admin_url);
            loop {
                let reply = call(Method::GET, &health, &[], "", Duration::from_secs(1)).await;
                if reply.is_ok_and(|it| it.status.is_success()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(START_PATIENCE, ready).await.map_err(|_| {
            io::Error::other(format!("the gateway did not start, see {}", self.log_file().display()))
        })
    }

    /// Kills it like `kill -9`: nothing is finished, nothing is said.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// The token of its admin API.
    pub(crate) fn token(&self) -> io::Result<String> {
        Ok(std::fs::read_to_string(self.token_file())?.trim().to_owned())
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.join("records/admin.token")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.folder.join("gateway.log")
    }
}

/// An address nobody listens on at the moment, the same for every start of the gateway.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
