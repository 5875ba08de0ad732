//! Whether what the documentation links to is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::root;

/// Looks at every Markdown file that is tracked. Addresses elsewhere and headings are not looked up.
pub(crate) fn broken() -> Result<Vec<String>, String> {
    let listed = Command::new("git").args(["ls-files", "-z", "--", "*.md"]).current_dir(root()).output();
    let listed = listed.map_err(|it| format!("cannot run git: {it}"))?;
    if !listed.status.success() {
        return Err("git does not list the files of this folder: is it a clone?".to_owned());
    }
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut broken = Vec::new();
    for name in names.split_terminator('\0') {
        let file = root().join(name);
        let text = fs::read_to_string(&file).map_err(|it| format!("{name}: {it}"))?;
        let missing = targets(&text).filter(|it| !reached(&file, it).exists());
        broken.extend(missing.map(|it| format!("{name} links to {it}, which is not there")));
    }
    Ok(broken)
}

fn reached(file: &Path, target: &str) -> PathBuf {
    file.parent().unwrap_or(file).join(target)
}

/// The files that a text links to.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|it| it.split([')', '\n', ' ']).next());
    links
        .filter(|it| !it.contains("://") && !it.starts_with("mailto:"))
        .filter_map(|it| it.split('#').next())
        .filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_looked_up() {
        let text = "[a](b.md) [c](d/e.md#f) [g](#h) [i](https://j.test/k) x](y";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["b.md", "d/e.md", "y"]);
    }
}
