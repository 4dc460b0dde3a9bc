//! One build of every third-party crate: the demo's binary, the tests and the benches ask the same features of each,
//! so that after one of them none of the others compiles wasmtime again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Third-party crates (name and version) and the sets of features that this selection of packages asks of them: one
/// where a crate is built once, two where it is built for the machine's own tools too.
fn features(selection: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix", "none", "--format", "{p} [{f}]"])
        .args(selection)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.contains("(/")) {
        if let Some((name, features)) = line.trim_end_matches(" (*)").split_once(" [") {
            let name = name.trim_end_matches(" (proc-macro)").to_owned();
            crates.entry(name).or_default().insert(features.to_owned());
        }
    }
    assert!(crates.len() > 100, "cargo tree printed {} crates", crates.len());
    crates
}

#[test]
fn the_product_and_its_tests_share_every_third_party_crate() {
    let product = features(&["--package", "headwater-cli", "--edges", "normal,build"]);
    let others = [
        features(&["--workspace", "--exclude", "headwater-tests", "--edges", "normal,build,dev"]),
        features(&["--package", "headwater-tests", "--features", "fail-points,mutants", "--edges", "normal,build,dev"]),
        features(&["--package", "headwater-tests", "--edges", "normal,build"]),
    ];
    for other in others {
        for (name, asked) in &product {
            let also = other.get(name);
            assert_eq!(also, Some(asked), "{name}: name the features in the root manifest and in cli/Cargo.toml");
        }
    }
}
