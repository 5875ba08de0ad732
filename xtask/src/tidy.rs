//! Which crate may use which (the drawing in ARCHITECTURE.md shows the same arrows), and that links lead somewhere.

use serde_json::Value;

use crate::links;
use crate::run::cargo_output;

/// A crate, and the crates of this workspace that it may depend on. Tests may use the testkit besides.
const ARROWS: &[(&str, &[&str])] = &[
    ("onceward-core", &[]),
    ("onceward-store-embedded", &["onceward-core"]),
    ("onceward-store-postgres", &["onceward-core"]),
    ("onceward-store-redis", &["onceward-core"]),
    ("onceward-webhook", &["onceward-core"]),
    ("onceward-http", &["onceward-core", "onceward-webhook"]),
    ("onceward-queue", &["onceward-core", "onceward-store-postgres", "onceward-webhook"]),
    ("onceward-admin", &["onceward-core"]),
    ("onceward-gateway", &["onceward-admin", "onceward-core", "onceward-http", "onceward-webhook"]),
    (
        "onceward",
        &[
            "onceward-core",
            "onceward-http",
            "onceward-queue",
            "onceward-store-embedded",
            "onceward-store-postgres",
            "onceward-store-redis",
            "onceward-webhook",
        ],
    ),
    ("onceward-cli", &["onceward", "onceward-admin", "onceward-gateway"]),
    ("onceward-testkit", &["onceward-core"]),
    ("onceward-bench", &[]),
    ("onceward-model", &["onceward-core"]),
    ("onceward-simulation", &["onceward-admin", "onceward-core", "onceward-gateway", "onceward-testkit"]),
    ("onceward-crash", &["onceward", "onceward-testkit"]),
    (
        "onceward-pace",
        &[
            "onceward-bench",
            "onceward-core",
            "onceward-http",
            "onceward-queue",
            "onceward-store-embedded",
            "onceward-store-postgres",
            "onceward-store-redis",
            "onceward-testkit",
        ],
    ),
    ("xtask", &[]),
];

/// What tests and examples may use besides: never a door from another door.
const FOR_TESTS: &[&str] = &["onceward-testkit", "onceward-core"];

pub(crate) fn run() -> Result<(), String> {
    println!("\n$ cargo xtask tidy");
    let (fine, text) = cargo_output(&["metadata", "--no-deps", "--format-version", "1", "--locked"])?;
    let metadata: Value = serde_json::from_str(text.lines().find(|it| it.starts_with('{')).unwrap_or("{}"))
        .map_err(|error| format!("cannot read what cargo metadata says: {error}"))?;
    if !fine {
        return Err(format!("cargo metadata failed:\n{text}"));
    }
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|it| it["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|it| it.0 == name) else {
            wrong.push(format!("{name} stands in no arrow: add it to xtask/src/tidy.rs and ARCHITECTURE.md"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev" && FOR_TESTS.contains(&on);
            if names.contains(&on) && !allowed.contains(&on) && !for_tests {
                wrong.push(format!("{name} must not use {on}"));
            }
        }
    }
    wrong.extend(links::broken()?);
    if wrong.is_empty() {
        println!("{} crates, every arrow as drawn; every link leads to a file", names.len());
        return Ok(());
    }
    Err(wrong.join("\n"))
}
