//! Highwater's own binaries, built from the sources as they are: a test can't run a stale one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::scratch::Scratch;

/// A test of this crate that is quickly built.
const SOME_TEST: &str = "harness_programs";

struct Built {
    programs: BTreeMap<String, PathBuf>,
    // Removed by the guardian: a static is never dropped.
    _folder: Scratch,
}

/// Where the binary `name` (`highwater`, `highwater-archive-cmd`, `highwater-restore-cmd`) lies for this test
/// process: a link or copy that every account can run and that a later build doesn't change. The first call has
/// `cargo` build all of them with the profile of the test itself, which takes no time when nothing has changed.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<Built> = OnceLock::new();
    let programs = &BUILT.get_or_init(build).programs;
    let known = || programs.keys().cloned().collect::<Vec<_>>().join(", ");
    programs.get(name).unwrap_or_else(|| panic!("no binary {name}; there are: {}", known())).clone()
}

fn build() -> Built {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace);
    forget_this_test(&mut command);
    // A test among the targets makes cargo choose the dependencies' features as for `cargo test --workspace`, so that
    // none of them is built twice.
    command.args(["build", "--locked", "--workspace", "--bins", "--test", SOME_TEST]);
    command.arg("--message-format=json-render-diagnostics");
    let (target, profile) = target_and_profile();
    command.arg("--target-dir").arg(target).args(["--profile", &profile]);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the binaries can't be built:\n{message}");

    let folder = Scratch::new();
    make_enterable(folder.path());
    let mut programs = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        if message["target"]["kind"][0] != "bin" {
            continue;
        }
        if let Some(path) = message["executable"].as_str() {
            let name = message["target"]["name"].as_str().expect("cargo names its targets").to_owned();
            let place = folder.join(&name);
            if fs::hard_link(path, &place).is_err() {
                fs::copy(path, &place).unwrap_or_else(|error| panic!("{path} can't be copied: {error}"));
            }
            programs.insert(name, place);
        }
    }
    Built { programs, _folder: folder }
}

/// Takes away what `cargo test` tells a test of the crate that it belongs to. Build scripts look at it (ring's does), so that with
/// it they and all that depends on them would be built anew, and once more by the next `cargo test`.
fn forget_this_test(command: &mut Command) {
    let is_of_a_crate = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
            .iter()
            .any(|part| name.starts_with(part))
            || ["CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR", "OUT_DIR"].contains(&name)
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_a_crate) {
            command.env_remove(name);
        }
    }
}

/// The test itself lies in `TARGET/PROFILE/deps/`.
fn target_and_profile() -> (PathBuf, String) {
    let own = std::env::current_exe().expect("Linux tells a process's own path");
    let mut folders = own.ancestors().skip(1).skip_while(|folder| folder.ends_with("deps"));
    let profile = folders.next().and_then(Path::file_name).and_then(|name| name.to_str());
    let target = folders.next().expect("a test lies in cargo's target folder").to_owned();
    let profile = match profile.expect("a test lies in a profile's folder") {
        // Cargo's name of the folder of its profile `dev`.
        "debug" => "dev",
        other => other,
    };
    (target, profile.to_owned())
}

fn make_enterable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .expect("an own folder's mode can be changed");
}
