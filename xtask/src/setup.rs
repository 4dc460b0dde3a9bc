//! A compiler for wasm guests: one whose wasm32-unknown-unknown target is there, else the target from rustup, else
//! Debian's compiler with its standard library built once for the target.

use crate::command::{Error, Result, is_there, output, run};
use crate::workspace::{cargo, target_directory};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What the user lets us do to the machine.
#[derive(Clone, Copy)]
pub(crate) struct Permission {
    /// Install system packages even when not root.
    pub(crate) system_packages: bool,
}

/// The compiler that guests are built with.
pub(crate) enum GuestCompiler {
    /// The toolchain's own, which has the target.
    Toolchain,
    /// Another one: cargo gets it as `RUSTC`.
    Other(PathBuf),
}

impl fmt::Display for GuestCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toolchain => write!(f, "the toolchain's rustc, which has the {TARGET} target"),
            Self::Other(rustc) => write!(f, "{} (RUSTC={0})", rustc.display()),
        }
    }
}

impl GuestCompiler {
    /// Makes cargo, wherever `command` starts it, use this compiler.
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Self::Other(rustc) = self {
            command.env("RUSTC", rustc);
        }
    }
}

/// Finds or installs a compiler for guests.
///
/// # Errors
/// None is there and none can be installed; the text says what to do by hand.
pub(crate) fn guest_compiler(permission: Permission) -> Result<GuestCompiler> {
    if let Some(found) = installed()? {
        return Ok(found);
    }
    if is_there("rustup") {
        let added = run(Command::new("rustup").args(["target", "add", TARGET]));
        match added {
            Ok(()) => {
                if let Some(found) = installed()? {
                    return Ok(found);
                }
            }
            Err(error) => eprintln!("{error}; trying Debian's compiler"),
        }
    }
    debian_compiler(permission)
}

/// What is there already, without touching the machine.
fn installed() -> Result<Option<GuestCompiler>> {
    let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
    if has_standard_library(&Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib")) {
        return Ok(Some(GuestCompiler::Toolchain));
    }
    let debian = has_standard_library(&debian_library());
    Ok((debian && Path::new(DEBIAN_RUSTC).exists()).then(|| GuestCompiler::Other(PathBuf::from(DEBIAN_RUSTC))))
}

fn debian_library() -> PathBuf {
    Path::new("/usr/lib/rustlib").join(TARGET).join("lib")
}

fn has_standard_library(directory: &Path) -> bool {
    let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    fs::read_dir(directory)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_std)))
}

/// Debian's rustc (package rustc-web) with its standard library built for the target from rust-web-src.
fn debian_compiler(permission: Permission) -> Result<GuestCompiler> {
    let remedy = format!(
        "guests need the {TARGET} target: run `rustup target add {TARGET}`, or on Debian run this again as root or \
         with --system-setup to install rustc-web and rust-web-src and build their standard library for it"
    );
    let root = output(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_there("apt-get") || !(root || permission.system_packages) {
        return Err(Error::new(remedy));
    }
    let as_root = |program: &str| {
        let mut command = Command::new(if root { program } else { "sudo" });
        if !root {
            command.arg(program);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(as_root("apt-get").args(["update", "-qq"]))?;
    run(as_root("apt-get").args(["install", "-y", "-qq", "--no-install-recommends", "rustc-web", "rust-web-src"]))?;

    // The linker: rustup's rust-lld serves any rustc.
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let linker = find_linker(Path::new(sysroot.trim()))?;
    run(as_root("ln").arg("-sf").arg(linker).arg("/usr/local/bin/rust-lld"))?;

    let built = build_standard_library()?;
    run(as_root("mkdir").arg("-p").arg(debian_library()))?;
    for library in built {
        run(as_root("cp").arg(library).arg(debian_library()))?;
    }
    match installed()? {
        Some(found) => Ok(found),
        None => Err(Error::new(format!("Debian's compiler is installed but has no {TARGET} library. {remedy}"))),
    }
}

fn find_linker(sysroot: &Path) -> Result<PathBuf> {
    let targets = fs::read_dir(sysroot.join("lib/rustlib")).map_err(|error| Error::new(error.to_string()))?;
    targets
        .flatten()
        .map(|target| target.path().join("bin/rust-lld"))
        .find(|linker| linker.exists())
        .ok_or_else(|| Error::new(format!("no rust-lld below {}: guests can't be linked", sysroot.display())))
}

/// Builds std for the target with Debian's compiler and returns the libraries.
fn build_standard_library() -> Result<Vec<PathBuf>> {
    let scratch = target_directory()?.join("guest-standard-library");
    let failed = |error: std::io::Error| Error::new(format!("{}: {error}", scratch.display()));
    fs::create_dir_all(scratch.join("src")).map_err(failed)?;
    fs::write(scratch.join("src/lib.rs"), "").map_err(failed)?;
    let manifest = "[package]\nname = \"stdbuild\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n";
    fs::write(scratch.join("Cargo.toml"), manifest).map_err(failed)?;
    let target = scratch.join("target");
    run(cargo()
        .current_dir(&scratch)
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort"]))?;
    let libraries = fs::read_dir(target.join(TARGET).join("release/deps")).map_err(failed)?;
    let wanted = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".rlib") && !name.starts_with("libstdbuild")
    };
    Ok(libraries.flatten().map(|entry| entry.path()).filter(wanted).collect())
}
