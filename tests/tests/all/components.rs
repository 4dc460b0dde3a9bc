//! Where the components of `modules/` are: `cargo xtask test` builds them and says so.

use std::path::PathBuf;

/// The component of a module, built.
pub(crate) fn component(name: &str) -> PathBuf {
    let directory = std::env::var_os("HEADWATER_COMPONENTS");
    let directory = directory.expect("HEADWATER_COMPONENTS is not set: run `cargo xtask test`, which builds modules/*");
    let path = PathBuf::from(directory).join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask test`", path.display());
    path
}
