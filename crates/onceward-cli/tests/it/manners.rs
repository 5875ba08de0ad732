//! Completions and manual pages.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{onceward, run};

/// Whether a program is on this machine.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn every_shell_gets_a_script_that_knows_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(onceward(Path::new(".")).args(["completions", shell])).with_code(0);
        assert_eq!(ended.stderr, "");
        for word in ["gateway", "keys", "doctor", "demo", "resolve", "print-config"] {
            assert!(ended.stdout.contains(word), "{shell} does not know {word}");
        }
    }
    run(onceward(Path::new(".")).args(["completions", "tcsh"])).with_code(2);
}

#[test]
fn bash_accepts_its_script_and_completes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onceward.bash");
    fs::write(&file, run(onceward(folder.path()).args(["completions", "bash"])).with_code(0).stdout).unwrap();
    let mut check = Command::new("bash");
    check.arg("-n").arg(&file);
    assert_eq!(run(&mut check).with_code(0).stderr, "");
    // What a person gets for `onceward keys re<TAB>`.
    let script = format!(
        "source {}; COMP_WORDS=(onceward keys re); COMP_CWORD=2; _onceward onceward re keys; echo ${{COMPREPLY[*]}}",
        file.display()
    );
    let ended = run(Command::new("bash").args(["--norc", "-c", &script]));
    assert_eq!(ended.stdout.trim(), "resolve remove", "{}", ended.stderr);
}

#[test]
fn every_verb_has_a_manual_page_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let ended = run(onceward(folder.path()).arg("man").arg(&pages)).with_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    let mut names: Vec<_> =
        fs::read_dir(&pages).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    for name in ["onceward.1", "onceward-gateway.1", "onceward-doctor.1", "onceward-keys-resolve.1"] {
        assert!(names.iter().any(|it| it == name), "{name} is not among {names:?}");
    }
    for name in names {
        let page = fs::read_to_string(pages.join(&name)).unwrap();
        for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(page.contains(part), "{name} has no {part}");
        }
        if is_there("groff") {
            let mut groff = Command::new("groff");
            groff.args(["-ww", "-man", "-Tutf8", "-z", "-K", "utf8"]).arg(pages.join(&name));
            assert_eq!(run(&mut groff).with_code(0).stderr, "", "{name}");
        }
    }
}

#[test]
fn the_main_page_goes_to_stdout_and_a_folder_that_cannot_be_made_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(onceward(folder.path()).arg("man")).with_code(0);
    assert!(ended.stdout.contains(".TH onceward 1"), "{}", ended.stdout);
    fs::write(folder.path().join("file"), "").unwrap();
    let ended = run(onceward(folder.path()).args(["man", "file/man1"])).with_code(4);
    assert!(ended.stderr.contains("cannot write file/man1"), "{}", ended.stderr);
}
