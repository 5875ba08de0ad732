//! The settings that come with the systemd unit, the image and the manifests are settings that this command takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{onceward, run};

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops")
}

/// Checks settings; some name no upstream, which is then a variable as in `compose.yaml`.
fn assert_fine(settings: &str, upstream: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("onceward.toml"), settings).unwrap();
    let mut command = onceward(folder.path());
    command.args(["gateway", "--check", "--config", "onceward.toml"]);
    command.envs(upstream.map(|it| ("ONCEWARD_UPSTREAM__URLS", it)));
    let ended = run(&mut command).with_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("the settings are fine\n", ""));
}

/// The block of text below `name: |`, without its indentation.
fn block(yaml: &str, name: &str) -> String {
    let mut lines = yaml.lines().skip_while(|it| it.trim() != format!("{name}: |"));
    let depth = |it: &str| it.len() - it.trim_start().len();
    let above = depth(lines.next().unwrap_or_else(|| panic!("there is no {name}")));
    let inside: Vec<_> = lines.take_while(|it| it.trim().is_empty() || depth(it) > above).collect();
    let margin = inside.iter().filter(|it| !it.trim().is_empty()).map(|it| depth(it)).min().unwrap();
    inside.iter().map(|it| format!("{}\n", it.get(margin..).unwrap_or_default())).collect()
}

#[test]
fn every_file_of_settings_that_comes_with_it_is_taken() {
    let mut found = Vec::new();
    for folder in fs::read_dir(ops()).unwrap().map(|it| it.unwrap().path()) {
        let Ok(settings) = fs::read_to_string(folder.join("onceward.toml")) else { continue };
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert_fine(&settings, (name == "container").then_some("http://api:9000"));
        found.push(name);
    }
    found.sort();
    assert_eq!(found, ["container", "systemd"]);
}

#[test]
fn the_settings_inside_the_config_map_are_taken() {
    let yaml = fs::read_to_string(ops().join("kubernetes/configmap.yaml")).unwrap();
    let settings = block(&yaml, "onceward.toml");
    assert!(settings.contains("urls = [\"http://payments-api:9000\"]"), "{settings}");
    assert_fine(&settings, None);
}
