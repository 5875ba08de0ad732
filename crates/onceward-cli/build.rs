//! Tells the binary from which commit it was built.

#[path = "build/commit.rs"]
mod commit;

use std::path::Path;

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script everything by variables")]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/commit.rs");
    println!("cargo:rerun-if-env-changed={}", commit::VARIABLE);
    let version = std::env::var("CARGO_PKG_VERSION").expect("cargo names the version");
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the folder");
    let root = Path::new(&folder).join("../..");
    let given = std::env::var(commit::VARIABLE).ok();
    let built_from = commit::find(given.as_deref(), &root);
    for file in built_from.watched {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let hash = built_from.commit.as_deref().and_then(|it| it.split(' ').next());
    println!("cargo:rustc-env=ONCEWARD_BUILT_FROM={}", hash.unwrap_or("unknown"));
    println!("cargo:rustc-env=ONCEWARD_VERSION={}", commit::version(&version, built_from.commit.as_deref()));
}
