//! Asking cargo: what the crate is, whether the compiler has the target, and for the core module.

use crate::error::CliError;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const TARGET: &str = "wasm32-unknown-unknown";
/// Guests may use SIMD: every broker has it.
const GUEST_FLAGS: [&str; 2] = ["-C", "target-feature=+simd128"];
/// Between the flags of `CARGO_ENCODED_RUSTFLAGS`.
const ENCODED_SEPARATOR: &str = "\x1f";

/// What cargo made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Compiled {
    /// Name of the crate.
    pub(super) name: String,
    /// The core module.
    pub(super) core_module: PathBuf,
}

/// Compiles the crate in `directory` for wasm. What the compiler says goes to standard error.
pub(super) fn compile(directory: &Path) -> Result<Compiled, CliError> {
    let manifest = directory.join("Cargo.toml");
    if !manifest.is_file() {
        let directory = directory.display();
        return Err(CliError::Build(format!("{directory} has no Cargo.toml: name a crate's directory with --path")));
    }
    let manifest = manifest.canonicalize().map_err(CliError::io(format!("find {}", manifest.display())))?;
    let package = find_package(&cargo_metadata(directory)?, &manifest)?;
    check_target(directory)?;

    let mut command = cargo(directory);
    command.args(["build", "--release", "--target", TARGET, "--config", "profile.release.lto=true"]);
    command.arg("--manifest-path").arg(&manifest).arg("--message-format=json-render-diagnostics");
    let environment = |name: &str| std::env::var_os(name);
    match guest_flags(environment("CARGO_ENCODED_RUSTFLAGS"), environment("RUSTFLAGS")) {
        Flags::Environment(name, flags) => command.env(name, flags),
        Flags::Configuration(config) => command.arg("--config").arg(config),
    };
    let output = run(command.stderr(Stdio::inherit()), "cargo build")?;
    if !output.status.success() {
        return Err(CliError::Build(format!("{} does not compile: see the compiler's messages above", package.name)));
    }
    let core_module = find_core_module(&output.stdout, &package).ok_or_else(|| {
        CliError::Build(format!(
            "cargo built {} but names no .wasm file: is another target set in its build?",
            package.name
        ))
    })?;
    Ok(Compiled { name: package.name, core_module })
}

fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The directory decides which toolchain and which configuration files count.
    command.current_dir(directory).stdin(Stdio::null());
    command
}

fn run(command: &mut Command, what: &str) -> Result<Output, CliError> {
    command.stdout(Stdio::piped()).output().map_err(CliError::io(format!("run `{what}`; is Rust installed")))
}

fn cargo_metadata(directory: &Path) -> Result<Value, CliError> {
    let mut command = cargo(directory);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).stderr(Stdio::inherit());
    let output = run(&mut command, "cargo metadata")?;
    if !output.status.success() {
        return Err(CliError::Build(format!("cargo can't read {}: see its message above", directory.display())));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| CliError::Build(format!("`cargo metadata` printed no JSON ({error}): is it Rust's cargo?")))
}

/// A package that can be a module.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    id: String,
    name: String,
}

/// The package of this manifest, if it has a library of type cdylib.
fn find_package(metadata: &Value, manifest: &Path) -> Result<Package, CliError> {
    let is_ours = |package: &&Value| package["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(package) = packages.iter().find(is_ours) else {
        let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
        return Err(CliError::Build(format!(
            "{} is a workspace and no crate: name one of its crates' directories with --path ({})",
            manifest.display(),
            names.join(", ")
        )));
    };
    let name = package["name"].as_str().unwrap_or_default().to_owned();
    let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !targets.iter().any(is_cdylib) {
        return Err(CliError::Build(format!(
            "crate {name} makes no module: put `[lib]` with `crate-type = [\"cdylib\"]` into {}",
            manifest.display()
        )));
    }
    Ok(Package { id: package["id"].as_str().unwrap_or_default().to_owned(), name })
}

fn is_cdylib(target: &Value) -> bool {
    target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
}

/// Whether the compiler that cargo will use has the target's library.
fn check_target(directory: &Path) -> Result<(), CliError> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(&compiler);
    command.current_dir(directory).stdin(Stdio::null()).stderr(Stdio::null());
    command.args(["--print", "target-libdir", "--target", TARGET]);
    let what = format!("{} --print target-libdir", compiler.display());
    let output = run(&mut command, &what)?;
    let library = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && has_standard_library(&library) {
        return Ok(());
    }
    Err(CliError::Build(format!(
        "the compiler {} has no {TARGET} target: run `rustup target add {TARGET}`, or set RUSTC to one that has it",
        compiler.display()
    )))
}

fn has_standard_library(directory: &Path) -> bool {
    let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    directory.read_dir().is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_std)))
    })
}

/// How the guests' flags get to the compiler.
#[derive(Debug, PartialEq, Eq)]
enum Flags {
    /// Added to those of the environment, which beat every configuration file.
    Environment(&'static str, OsString),
    /// Merged with those of configuration files.
    Configuration(String),
}

fn guest_flags(encoded: Option<OsString>, plain: Option<OsString>) -> Flags {
    let add = |mut flags: OsString, separator: &str| {
        for flag in GUEST_FLAGS {
            if !flags.is_empty() {
                flags.push(separator);
            }
            flags.push(flag);
        }
        flags
    };
    match (encoded, plain) {
        (Some(encoded), _) => Flags::Environment("CARGO_ENCODED_RUSTFLAGS", add(encoded, ENCODED_SEPARATOR)),
        (None, Some(plain)) => Flags::Environment("RUSTFLAGS", add(plain, " ")),
        (None, None) => Flags::Configuration(format!("target.{TARGET}.rustflags={GUEST_FLAGS:?}")),
    }
}

/// The .wasm file of the package's cdylib among cargo's messages, one JSON object a line.
fn find_core_module(messages: &[u8], package: &Package) -> Option<PathBuf> {
    let messages = messages.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let is_ours = |message: &Value| {
        message["reason"] == "compiler-artifact"
            && message["package_id"] == package.id.as_str()
            && is_cdylib(&message["target"])
    };
    messages.filter(is_ours).find_map(|message| {
        let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
        files.map(PathBuf::from).find(|file| file.extension().is_some_and(|ending| ending == "wasm"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn metadata() -> Value {
        let package = |name: &str, kind: &str| {
            json!({
                "id": format!("path+file:///w/{name}#0.1.0"),
                "name": name,
                "manifest_path": format!("/w/{name}/Cargo.toml"),
                "targets": [{"crate_types": [kind]}],
            })
        };
        json!({"packages": [package("count", "cdylib"), package("tool", "bin")]})
    }

    #[test]
    fn only_a_crate_with_a_cdylib_is_a_module() {
        let package = find_package(&metadata(), Path::new("/w/count/Cargo.toml")).unwrap();
        assert_eq!(package.name, "count");
        let error = find_package(&metadata(), Path::new("/w/tool/Cargo.toml")).unwrap_err().to_string();
        assert!(error.contains("crate tool") && error.contains("cdylib") && error.contains("/w/tool"), "{error}");
        let error = find_package(&metadata(), Path::new("/w/Cargo.toml")).unwrap_err().to_string();
        assert!(error.contains("workspace") && error.contains("count, tool"), "{error}");
    }

    #[test]
    fn the_core_module_is_found_among_cargos_messages() {
        let package = find_package(&metadata(), Path::new("/w/count/Cargo.toml")).unwrap();
        let artifact = |id: &str, files: Value| {
            let target = json!({"crate_types": ["cdylib", "rlib"]});
            json!({"reason": "compiler-artifact", "package_id": id, "target": target, "filenames": files}).to_string()
        };
        let messages = [
            artifact("other", json!(["/t/other.wasm"])),
            "not json".to_owned(),
            artifact(&package.id, json!(["/t/libcount.rlib", "/t/count.wasm"])),
        ];
        let found = find_core_module(messages.join("\n").as_bytes(), &package);
        assert_eq!(found, Some("/t/count.wasm".into()));
        assert_eq!(find_core_module(b"", &package), None);
    }

    #[test]
    fn flags_of_the_user_are_kept() {
        assert_eq!(
            guest_flags(None, Some("-Cdebuginfo=1".into())),
            Flags::Environment("RUSTFLAGS", "-Cdebuginfo=1 -C target-feature=+simd128".into())
        );
        assert_eq!(
            guest_flags(Some("-Cx".into()), Some("-Cy".into())),
            Flags::Environment("CARGO_ENCODED_RUSTFLAGS", "-Cx\x1f-C\x1ftarget-feature=+simd128".into())
        );
        let expected = r#"target.wasm32-unknown-unknown.rustflags=["-C", "target-feature=+simd128"]"#;
        assert_eq!(guest_flags(None, None), Flags::Configuration(expected.to_owned()));
    }

    #[test]
    fn what_is_no_crate_is_named_with_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let error = compile(root.path()).unwrap_err().to_string();
        assert!(error.contains("has no Cargo.toml") && error.contains("--path"), "{error}");

        let manifest = "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
        fs::write(root.path().join("Cargo.toml"), manifest).unwrap();
        fs::create_dir(root.path().join("src")).unwrap();
        fs::write(root.path().join("src/lib.rs"), "").unwrap();
        let error = compile(root.path()).unwrap_err().to_string();
        assert!(error.contains("crate plain makes no module") && error.contains("cdylib"), "{error}");
    }

    #[test]
    fn a_target_without_a_standard_library_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_standard_library(&root.path().join("missing")));
        fs::write(root.path().join("libcore-1.rlib"), "").unwrap();
        assert!(!has_standard_library(root.path()));
        fs::write(root.path().join("libstd-1.rlib"), "").unwrap();
        assert!(has_standard_library(root.path()));
    }
}
