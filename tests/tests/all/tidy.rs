//! The house rules that a machine can hold: sizes, names, purity, and documents that tell the truth.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const LINE_COLUMNS_MAX: usize = 120;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file below the workspace with one of these endings, build products and foreign files left out.
pub(crate) fn files(endings: &[&str]) -> Vec<PathBuf> {
    fn walk(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "headwater-data", "texts", "fixtures"].contains(&name.as_str())
                {
                    walk(&path, endings, found);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), endings, &mut found);
    found.sort();
    assert!(!found.is_empty());
    found
}

pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Breaches of a rule, each as `file:line: what`.
pub(crate) fn breaches(endings: &[&str], rule: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(endings) {
        for (index, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if let Some(what) = rule(&path, line) {
                found.push(format!("{}:{}: {what}", shown(&path), index + 1));
            }
        }
    }
    found
}

pub(crate) fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_file_passes_800_lines() {
    let long = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count() > FILE_LINES_MAX;
    let found: Vec<String> = files(&[".rs"]).iter().filter(|path| long(path)).map(|path| shown(path)).collect();
    assert_none(&found);
}

#[test]
fn no_line_of_code_passes_120_columns() {
    assert_none(&breaches(&[".rs", ".wit"], |_, line| {
        let columns = line.chars().count();
        (columns > LINE_COLUMNS_MAX).then(|| format!("{columns} columns"))
    }));
}

#[test]
fn no_module_is_a_junk_drawer() {
    let junk = |path: &&PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap();
        ["utils", "util", "common", "helpers", "misc"].contains(&stem)
    };
    let found: Vec<String> = files(&[".rs"]).iter().filter(junk).map(|path| shown(path)).collect();
    assert_none(&found);
}

#[test]
fn nothing_is_left_to_do_in_code() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    assert_none(&breaches(&[".rs", ".toml", ".wit"], |_, line| {
        marks.iter().find(|mark| line.contains(**mark)).map(|mark| format!("{mark}: do it, or file it"))
    }));
}

#[test]
fn no_test_is_ignored_or_asserts_nothing() {
    let ignored = concat!("#[ign", "ore");
    assert_none(&breaches(&[".rs"], |_, line| {
        let line = line.trim();
        let asserts_nothing = line.starts_with("matches!(") && line.ends_with(");");
        (line.starts_with(ignored) || asserts_nothing).then(|| line.to_owned())
    }));
}

#[test]
fn every_exception_to_a_lint_says_why() {
    assert_none(&breaches(&[".rs"], |_, line| {
        let allows = line.trim_start().starts_with("#[allow(") || line.trim_start().starts_with("#![allow(");
        allows.then(|| "use #[expect(lint, reason = …)]".to_owned())
    }));
}

#[test]
fn pure_crates_depend_on_no_runtime() {
    let impure = ["tokio", "quinn", "rustls", "socket2", "rustix", "rand", "wasmtime", "parking_lot"];
    for pure in ["protocol", "core", "state"] {
        let manifest = fs::read_to_string(root().join(pure).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        for name in impure {
            let dependency = format!("\n{name}");
            assert!(!dependencies.contains(&dependency), "{pure} must not depend on {name}");
        }
    }
}

#[test]
fn wasmtime_stays_behind_the_wasm_host() {
    for manifest in files(&["Cargo.toml"]) {
        let directory = shown(manifest.parent().unwrap());
        if directory.is_empty() || directory == "wasm-host" {
            continue;
        }
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("wasmtime")), "{directory} depends on wasmtime");
    }
}

#[test]
fn every_crate_opens_on_a_picture() {
    for manifest in files(&["Cargo.toml"]) {
        let library = manifest.with_file_name("src").join("lib.rs");
        let directory = shown(manifest.parent().unwrap());
        if directory.starts_with("modules") || !library.exists() {
            continue;
        }
        let text = fs::read_to_string(&library).unwrap();
        let opening: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(opening.contains("```text"), "{directory}/src/lib.rs opens without a picture");
    }
}

#[test]
fn the_readme_stays_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 100, "README.md has {lines} lines");
}
