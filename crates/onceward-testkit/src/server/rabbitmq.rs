//! A RabbitMQ server of one test's own, with an `epmd` of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::{Process, free_port, program};

/// How long a server may take until it answers. It takes 6 s alone, and several may start at a time.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often another port is tried when somebody else took the free one.
const TRIES: usize = 3;

/// One RabbitMQ, its `epmd`, and their folder.
#[derive(Debug)]
pub struct RabbitServer {
    folder: TempDir,
    ports: Ports,
    server: Process,
    /// How often it has started, this time included.
    starts: usize,
    _names: Process,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    /// Where `epmd` listens.
    names: u16,
    /// Where other nodes would come in.
    nodes: u16,
}

impl RabbitServer {
    /// Starts one.
    ///
    /// # Panics
    /// When it is missing, or does not answer within 90 s.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines in its `rabbitmq.conf`.
    ///
    /// # Panics
    /// When it is missing, or does not answer within 90 s.
    #[must_use]
    pub fn start_with(settings: &str) -> Self {
        let mut folder = tempfile::tempdir_in(super::memory()).expect("a folder can be made");
        for _ in 0..TRIES {
            let ports = Ports { amqp: free_port(), names: free_port(), nodes: free_port() };
            let config = format!("listeners.tcp.default = 127.0.0.1:{}\n{settings}\n", ports.amqp);
            let file = |name: &str, text: &str| {
                std::fs::write(folder.path().join(name), text).expect("a file can be written");
            };
            file("log", "");
            file("rabbitmq.conf", &config);
            file("plugins", "[].\n");
            let names = names(folder.path(), ports);
            let server = server(folder.path(), ports);
            let mut it = Self { folder, ports, server, starts: 1, _names: names };
            if it.answers() {
                return it;
            }
            Self { folder, .. } = it;
        }
        panic!("rabbitmq-server does not answer: {}", log_of(&folder))
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The URL of its first virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on what its files have, on the same port.
    ///
    /// # Panics
    /// When it does not answer within 90 s.
    pub fn start_again(&mut self) {
        self.server.kill();
        self.starts += 1;
        for _ in 0..TRIES {
            self.server = server(self.folder.path(), self.ports);
            if self.answers() {
                return;
            }
        }
        panic!("rabbitmq-server does not answer again: {}", log_of(&self.folder))
    }

    /// How many messages a quorum queue of the first virtual host has, those that were delivered and not acknowledged included,
    /// as its log says now: what `rabbitmqctl` shows is seconds old. `None` where there is no such queue, or no answer.
    #[must_use]
    pub fn messages(&self, queue: &str) -> Option<u64> {
        self.evaluate(&format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup({{resource, <<\"/\">>, queue, <<\"{queue}\">>}}),
            {{ok, N, _}} = ra:consistent_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1),
            N.\n"
        ))?
        .parse()
        .ok()
    }

    /// Has the server write down what it knows of its queues. By itself 3.10 does that seconds later, and when it is killed
    /// before, it has none of what a new queue has confirmed.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write_down_queues(&self) {
        let done = self.evaluate(
            "mnesia:sync_log(), dumped = mnesia:dump_log(), [ok = dets:sync(It) || It <- dets:all()].\n",
        );
        assert!(done.is_some(), "the server writes it down");
    }

    /// What the server makes of an expression of Erlang.
    fn evaluate(&self, expression: &str) -> Option<String> {
        let cookie = std::fs::read_to_string(self.folder.path().join(".erlang.cookie")).ok()?;
        let mut command = Command::new(program("erl_call", &erlang(), "rabbitmq-server"));
        command.args([
            "-address",
            &format!("localhost:{}", self.ports.nodes),
            "-c",
            cookie.trim(),
            "-r",
            "-e",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut asking = command.spawn().expect("erl_call can be run");
        asking.stdin.take().expect("it was asked for").write_all(expression.as_bytes()).expect("it reads");
        let out = asking.wait_with_output().ok()?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        Some(said.trim().strip_prefix("{ok, ")?.strip_suffix('}')?.to_owned())
    }

    /// What `rabbitmqctl` prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = command(script("rabbitmqctl"), self.folder.path(), self.ports);
        let out = command.arg("--quiet").args(arguments).output().expect("rabbitmqctl can be run");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        said
    }

    /// Waits until it has started; `false` when it ended.
    fn answers(&mut self) -> bool {
        let began = SystemClock.boot();
        while SystemClock.boot() - began < PATIENCE {
            if self.server.ended().is_some() {
                return false;
            }
            // It speaks before it can be used.
            if log_of(&self.folder).matches("Server startup complete").count() == self.starts {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

fn server(folder: &Path, ports: Ports) -> Process {
    let mut command = command(script("rabbitmq-server"), folder, ports);
    // The shell becomes the server, so that a kill is one.
    command.env("RUNNING_UNDER_SYSTEMD", "true");
    Process::start(&mut command, &folder.join("log"))
}

fn names(folder: &Path, ports: Ports) -> Process {
    let mut command = Command::new(program("epmd", &erlang(), "rabbitmq-server"));
    command.args(["-address", "127.0.0.1", "-port", &ports.names.to_string()]);
    Process::start(&mut command, &folder.join("epmd.log"))
}

/// Where Debian puts the programs of Erlang.
fn erlang() -> [PathBuf; 2] {
    ["/usr/bin", "/usr/lib/erlang/bin"].map(PathBuf::from)
}

/// The script itself: the one on the path changes the user.
fn script(name: &str) -> PathBuf {
    program(name, &[PathBuf::from("/usr/lib/rabbitmq/bin")], "rabbitmq-server")
}

fn command(program: PathBuf, folder: &Path, ports: Ports) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("LANG", "C.UTF-8")
        .env("RABBITMQ_NODENAME", format!("onceward-{}@localhost", ports.amqp))
        .env("RABBITMQ_BASE", folder)
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("logs"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_DIST_PORT", ports.nodes.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("ERL_EPMD_PORT", ports.names.to_string());
    command
}

fn log_of(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}
