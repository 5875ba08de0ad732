//! nginx, as what to compare with: a bare proxy, or an API that costs next to nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{Result, client};

/// What an nginx does.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    /// Two workers in front of this upstream, streaming both ways.
    Streaming(SocketAddr),
    /// Two workers in front of this upstream, as fast as nginx proxies.
    Proxy(SocketAddr),
    /// One worker that answers every request with [`ANSWER`].
    Answering,
}

/// The body that [`Role::Answering`] gives, with status 201.
pub const ANSWER: &str = r#"{"id":"ch_1","amount":1200,"currency":"EUR","state":"captured"}"#;

/// A running nginx. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    _folder: TempDir,
    /// Where callers connect.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts nginx and waits until it answers.
    ///
    /// # Errors
    /// nginx is not installed, or does not answer within 10 s.
    pub async fn start(role: Role) -> Result<Self> {
        let folder = TempDir::new()?;
        // Nobody else is told this port; the moment between is short.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        fs::write(folder.path().join("nginx.conf"), configuration(address, role))?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|it| format!("cannot start nginx ({it}): `apt-get install nginx` installs it"))?;
        let nginx = Self { child, _folder: folder, address };
        let begun = Instant::now();
        while !client::get(address, "/fast").await.is_ok_and(|it| it.status.is_success()) {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("nginx does not answer".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(nginx)
    }

    /// The process that its workers are children of.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that the master ends its workers.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        let _ = self.child.wait();
    }
}

fn configuration(listen: SocketAddr, role: Role) -> String {
    // Started by root, workers would become `nobody`, who may not enter the folder.
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let (workers, upstream, location) = match role {
        Role::Streaming(to) => {
            (2, pool(to), format!("{PROXY} proxy_request_buffering off; proxy_buffering off;"))
        }
        Role::Proxy(to) => (2, pool(to), PROXY.to_owned()),
        Role::Answering => {
            (1, String::new(), format!("default_type application/json; return 201 '{ANSWER}';"))
        }
    };
    format!(
        r#"{user}
daemon off;
worker_processes {workers};
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000000;
  {upstream}
  server {{
    listen {listen} backlog=4096;
    client_max_body_size 0;
    location / {{ {location} }}
  }}
}}
"#
    )
}

const PROXY: &str = r#"proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";"#;

fn pool(upstream: SocketAddr) -> String {
    format!("upstream api {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}")
}
