//! Flags, variables and files through the real command.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Ended, onceward, run};
use crate::snapshot::assert_snapshot;

const FILE: &str = r#"listen = "127.0.0.1:7001"
store = "embedded:./from-file"
[upstream]
urls = ["http://127.0.0.1:9000"]
[policy]
lease = "11s"
retention = "2d"
[[route]]
methods = ["POST"]
path = "/payments"
key = "required"
retention = "7d"
"#;

struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn gateway(&self, arguments: &[&str]) -> Command {
        let mut command = onceward(self.0.path());
        command.arg("gateway").args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.gateway(arguments))
    }
}

/// The value of the first line `key = …` of a printed configuration.
fn value<'a>(printed: &'a str, key: &str) -> &'a str {
    printed.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(" = ")).unwrap()
}

#[test]
fn wrong_settings_are_refused_with_place_and_remedy() {
    let bench = Bench::new();
    bench.write(
        "unknown.toml",
        "[upstream]\nurls = [\"http://127.0.0.1:9000\"]\n\n[policy]\nleese = \"10s\"\n",
    );
    bench.write("broken.toml", "listen = \n");
    bench.write(
        "several.toml",
        "listen = \"localhost\"\n[admin]\nlisten = 8081\n[upstream]\nurls = []\n[policy]\nlease = \"10\"\n\
         [[route]]\npath = \"payments\"\nretention = \"1w\"\n",
    );
    bench
        .write("clash.toml", "[upstream]\nurls = [\"http://127.0.0.1:9000\"]\n[policy]\nrun_max = \"10s\"\n");
    let cases: [&[&str]; 11] = [
        &[],
        &["--upstrem", "http://127.0.0.1:9000"],
        &["--upstream", "127.0.0.1:9000"],
        &["--upstream", "http://127.0.0.1:9000", "--store", "postgress://me:hunter2@db/x"],
        &["--upstream", "http://127.0.0.1:9000", "--listen", "127.0.0.1:8080", "--admin", "127.0.0.1:8080"],
        &["--upstream", "http://127.0.0.1:9000", "--log", "xml"],
        &["--config", "missing.toml"],
        &["--config", "unknown.toml"],
        &["--config", "broken.toml"],
        &["--config", "several.toml"],
        &["--config", "clash.toml"],
    ];
    let mut said = String::new();
    for arguments in cases {
        let ended = bench.run(arguments).with_code(2);
        assert_eq!(ended.stdout, "");
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        said.push_str(&format!("$ onceward gateway {}\n{}\n", arguments.join(" "), ended.stderr));
    }
    assert_snapshot("wrong-settings.txt", &said);
    assert!(!bench.0.path().join("onceward-data").exists(), "something was started");
}

#[test]
fn a_check_tells_and_starts_nothing() {
    let bench = Bench::new();
    bench.write("good.toml", FILE);
    let ended = bench.run(&["--check", "--config", "good.toml"]).with_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("the settings are fine\n", ""));
    bench.write("bad.toml", "listen = 1\n");
    bench.run(&["--check", "--config", "bad.toml"]).with_code(2);
    bench.write("tls.toml", &format!("{FILE}[tls]\ncert = \"no.crt\"\nkey = \"no.key\"\n"));
    let ended = bench.run(&["--check", "--config", "tls.toml"]).with_code(2);
    assert!(ended.stderr.starts_with("onceward: tls.") && ended.stdout.is_empty(), "{ended:?}");
    assert!(!bench.0.path().join("from-file").exists());
}

#[test]
fn the_printed_configuration_reads_back_to_the_same() {
    let bench = Bench::new();
    bench.write("first.toml", FILE);
    let first = bench.run(&["--print-config", "--config", "first.toml"]).with_code(0);
    assert_snapshot("print-config.toml", &first.stdout);
    bench.write("second.toml", &first.stdout);
    let second = bench.run(&["--print-config", "--config", "second.toml"]).with_code(0);
    assert_eq!(first, second);
    assert!(!bench.0.path().join("from-file").exists());
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let bench = Bench::new();
    bench.write("file.toml", FILE);
    let mut command =
        bench.gateway(&["--print-config", "--config", "file.toml", "--listen", "127.0.0.1:7003"]);
    command.env("ONCEWARD_LISTEN", "127.0.0.1:7002").env("ONCEWARD_POLICY__LEASE", "12s");
    let printed = run(&mut command).with_code(0).stdout;
    assert_eq!(value(&printed, "listen"), "\"127.0.0.1:7003\"");
    assert_eq!(value(&printed, "lease"), "\"12s\"");
    assert_eq!(value(&printed, "store"), "\"embedded:./from-file\"");
    assert_eq!(value(&printed, "retention"), "\"2d\"");
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_only_warned_of() {
    let bench = Bench::new();
    let mut command = bench.gateway(&["--check", "--upstream", "http://127.0.0.1:9000"]);
    command
        .env("ONCEWARD_PORT", "tcp://10.0.0.7:80")
        .env("ONCEWARD_PORT_80_TCP_ADDR", "10.0.0.7")
        .env("ONCEWARD_SERVICE_HOST", "10.0.0.7")
        .env("ONCEWARD_POLICY__LEESE", "hunter2")
        // These are nobody's business: one is read by another verb, the others are not ours.
        .env("ONCEWARD_ADMIN_TOKEN", "hunter2")
        .env("PORT", "1")
        .env("LISTEN", "nonsense");
    let ended = run(&mut command).with_code(0);
    assert!(!ended.stderr.contains("hunter2"));
    assert_snapshot("kubernetes.txt", &ended.stderr);
}
