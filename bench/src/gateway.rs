//! The gateway as a process: started on free ports over a store of its own, ended with its value.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tokio::time::{Instant, sleep};

use crate::args::Common;
use crate::usage::Usage;
use crate::{Result, client};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(40);

/// Settings that fit all three commands: a duplicate waits for what hangs, and nothing else is special.
pub const SETTINGS: &str = r#"
drain_delay = "0s"
drain = "5s"
[upstream]
urls = ["{upstream}"]
protocol = "http1"
[[route]]
path = "/hang"
in_flight = "wait 1m"
"#;

/// The same in front of an upstream that speaks HTTP/2 with prior knowledge.
pub const SETTINGS_H2C: &str = r#"
drain_delay = "0s"
drain = "5s"
[upstream]
urls = ["{upstream}"]
protocol = "h2c"
"#;

/// Settings under which speed is measured: nothing special, and no access log where the build can do without.
/// The second text says which it is.
///
/// # Errors
/// The binary is missing.
pub fn quiet(common: &Common) -> Result<(String, &'static str)> {
    let settings = r#"
access_log = "none"
drain_delay = "0s"
drain = "5s"
[upstream]
urls = ["{upstream}"]
protocol = "http1"
"#;
    let file = NamedTempFile::with_suffix(".toml")?;
    fs::write(file.path(), settings.replace("{upstream}", "http://127.0.0.1:1"))?;
    let check = Command::new(&common.binary)
        .env_clear()
        .args(["gateway", "--check", "--config"])
        .arg(file.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|it| format!("no gateway at {}: {it}", common.binary.display()))?;
    let says = match (&common.settings, check.success()) {
        (Some(_), _) => "as the given settings say in the gateway",
        (None, true) => "off in the gateway",
        (None, false) => "on in the gateway, whose build has no setting for it",
    };
    let whole =
        if check.success() { settings.to_owned() } else { settings.replace("access_log = \"none\"\n", "") };
    Ok((whole, says))
}

/// A running gateway. It is killed when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    folder: TempDir,
    /// Where callers connect.
    pub address: SocketAddr,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
}

impl Gateway {
    /// Starts the gateway with these settings and waits until `/readyz` says 200.
    ///
    /// `upstreams` are put in place of `{upstream}` and `{upstream2}`; the last one stands in for a missing one.
    ///
    /// # Errors
    /// The binary is missing, the settings are refused, or it is not ready within 30 s.
    pub async fn start(common: &Common, settings: &str, upstreams: &[String]) -> Result<Self> {
        Self::start_on("embedded:records", common, settings, upstreams).await
    }

    /// The same over another store; paths in its URL are taken from the folder of the process.
    ///
    /// # Errors
    /// As above.
    pub async fn start_on(
        store: &str,
        common: &Common,
        settings: &str,
        upstreams: &[String],
    ) -> Result<Self> {
        let binary = fs::canonicalize(&common.binary)
            .map_err(|it| format!("no gateway at {}: {it}", common.binary.display()))?;
        let folder = match &common.folder {
            Some(parent) => TempDir::new_in(parent)?,
            None => TempDir::new()?,
        };
        let [first, last] = [upstreams.first(), upstreams.last()].map(|it| it.cloned().unwrap_or_default());
        let text = match &common.settings {
            Some(file) => fs::read_to_string(file)?,
            None => settings.to_owned(),
        };
        let file = folder.path().join("onceward.toml");
        fs::write(&file, text.replace("{upstream}", &first).replace("{upstream2}", &last))?;
        let [out, err] = ["out", "err"].map(|it| folder.path().join(format!("gateway.{it}")));
        let mut child = Command::new(binary)
            .env_clear()
            .current_dir(folder.path())
            .arg("gateway")
            .arg("--config")
            .arg(&file)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", store])
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(err)?)
            .spawn()?;
        let begun = Instant::now();
        let ready = loop {
            if let Some(ready) = ready_line(&fs::read_to_string(&out)?) {
                break ready;
            }
            if child.try_wait()?.is_some() || begun.elapsed() > START {
                let _ = child.kill();
                let said = fs::read_to_string(folder.path().join("gateway.err"))?;
                return Err(format!("the gateway did not start: {said}").into());
            }
            sleep(Duration::from_millis(20)).await;
        };
        let address = |name: &str| -> Result<SocketAddr> {
            Ok(ready[name].as_str().ok_or_else(|| format!("the start line has no {name}"))?.parse()?)
        };
        let gateway = Self { address: address("listen")?, admin: address("admin")?, child, folder };
        while !gateway.is_ready().await {
            if begun.elapsed() > START {
                return Err("/readyz never said 200".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(gateway)
    }

    /// Whether `/readyz` says 200 now.
    pub async fn is_ready(&self) -> bool {
        client::get(self.admin, "/readyz").await.is_ok_and(|it| it.status == 200)
    }

    /// What the process holds now.
    ///
    /// # Errors
    /// The process has ended.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its store and its outputs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its outputs are written.
    pub fn logs(&self) -> [PathBuf; 2] {
        ["out", "err"].map(|it| self.folder.path().join(format!("gateway.{it}")))
    }

    /// The lines of both outputs that tell of a panic.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn panics(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for file in self.logs() {
            let text = String::from_utf8_lossy(&fs::read(file)?).into_owned();
            found.extend(panics_in(&text));
        }
        Ok(found)
    }

    /// Tells it to stop and waits for its end.
    ///
    /// # Errors
    /// It did not end within 40 s, or not with code 0; it is killed then.
    pub async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() { Ok(()) } else { Err(format!("it ended with {status}").into()) };
            }
            if begun.elapsed() > STOP {
                return Err("the gateway did not stop".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ready_line(log: &str) -> Option<Value> {
    let whole = log.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    whole
        .filter_map(|it| serde_json::from_str::<Value>(it).ok())
        .find(|it| it["message"] == "the gateway is ready")
}

fn panics_in(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|it| it.to_ascii_lowercase().contains("panic")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_in_either_spelling() {
        let text = "fine\nthread 'main' panicked at x\n{\"message\":\"Panic in a task\"}\nfine";
        assert_eq!(panics_in(text).count(), 2);
    }

    #[test]
    fn half_a_line_is_not_a_start() {
        let line = r#"{"message":"the gateway is ready","listen":"127.0.0.1:1"}"#;
        assert!(ready_line(line).is_none() && ready_line(&format!("{line}\n")).is_some());
    }
}
