//! A bare proxy to compare with: nginx in front of the same upstream, streaming both ways.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{Result, client};

/// A running nginx. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    _folder: TempDir,
    /// Where callers connect.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts nginx with two workers and waits until it answers.
    ///
    /// # Errors
    /// nginx is not installed, or does not answer within 10 s.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let folder = TempDir::new()?;
        // Nobody else is told this port; the moment between is short.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        fs::write(folder.path().join("nginx.conf"), configuration(address, upstream))?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|it| format!("cannot start nginx: {it}"))?;
        let nginx = Self { child, _folder: folder, address };
        let begun = Instant::now();
        while !client::get(address, "/fast").await.is_ok_and(|it| it.status == 200) {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("nginx does not answer".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(nginx)
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

fn configuration(listen: SocketAddr, upstream: SocketAddr) -> String {
    // Started by root, workers would become `nobody`, who may not enter the folder.
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    format!(
        r#"{user}
daemon off;
worker_processes 2;
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000000;
  upstream api {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {listen};
    client_max_body_size 0;
    location / {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_buffering off;
    }}
  }}
}}
"#
    )
}
