//! The files that no compiler reads say what is true: what may not be depended on, and the container set-up, which
//! can't be run where there is no container engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_repository::Config;
use highwater_tests::cache_folder;
use serde_json::Value;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn toml(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names(list: &toml::Value) -> BTreeSet<String> {
    let names = list.as_array().unwrap().iter();
    names.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nothing_that_is_banned_is_depended_on() {
    let banned = names(&toml("deny.toml")["bans"]["deny"]);
    let used = names(&toml("Cargo.lock")["package"]);
    assert!(used.contains("highwater-wal") && banned.contains("chrono"));
    let both: Vec<_> = banned.intersection(&used).collect();
    assert!(both.is_empty(), "{both:?} may not be depended on, see deny.toml; hint: cargo tree -i NAME");
}

/// `compose.yml` as JSON, through the YAML parser that comes with moto.
fn compose() -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let mut python = Command::new(cache_folder().join("moto/bin/python"));
    let output = python.args(["-c", script]).arg(project().join("docker/compose.yml")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn compose_names_files_stages_and_volumes_that_exist() {
    let compose = compose();
    let folder = project().join("docker");
    for (name, service) in compose["services"].as_object().unwrap() {
        if let Some(build) = service["build"].as_object() {
            let context = folder.join(build["context"].as_str().unwrap());
            let dockerfile = fs::read_to_string(context.join(build["dockerfile"].as_str().unwrap())).unwrap();
            let stage = format!(" AS {}\n", build["target"].as_str().unwrap());
            assert!(dockerfile.contains(&stage), "{name}: no stage{stage}");
        } else {
            let image = service["image"].as_str().unwrap();
            assert!(
                image.contains(':') && !image.ends_with(":latest"),
                "{name}: {image} is no fixed version"
            );
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let exists = match source.strip_prefix("./") {
                Some(file) => folder.join(file).is_file(),
                None => compose["volumes"].as_object().unwrap().contains_key(source),
            };
            assert!(exists, "{name}: {source} is not there");
        }
        for needed in
            service["depends_on"].as_object().map_or(vec![], |needed| needed.keys().cloned().collect())
        {
            assert!(compose["services"].get(&needed).is_some(), "{name} needs {needed}");
        }
    }
}

#[test]
fn the_containers_configuration_is_understood() {
    let compose = compose();
    let secrets = compose["x-repository-key"].as_object().unwrap();
    let environment = secrets.iter().map(|(name, value)| (name.into(), value.as_str().unwrap().into()));
    let config = Config::parse(&read("docker/highwater.toml"), "docker/highwater.toml", environment).unwrap();
    let store = &config.repositories[0].store;
    assert!(compose["services"].get("store").is_some());
    assert_eq!(store.endpoint.as_deref(), Some("http://store:9000"));
    assert_eq!(
        store.access_key_id.as_deref(),
        compose["services"]["store"]["environment"]["RUSTFS_ACCESS_KEY"].as_str()
    );
    let cluster = config.cluster(None).unwrap();
    let data = format!("data:{}", cluster.data_directory.as_ref().unwrap().display());
    let volumes = compose["services"]["postgres"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume.as_str() == Some(&data)), "the data directory is not {data}");
}

#[test]
fn the_images_hold_every_binary_and_do_not_run_as_root() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project()).args(["metadata", "--locked", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_slice(&cargo.output().unwrap().stdout).unwrap();
    let targets = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap());
    let is_binary = |target: &&Value| {
        target["kind"][0] == "bin" && target["name"].as_str().unwrap().starts_with("highwater")
    };
    let binaries: BTreeSet<&str> =
        targets.filter(is_binary).map(|target| target["name"].as_str().unwrap()).collect();

    let dockerfile = read("docker/Dockerfile");
    let copies: Vec<_> = dockerfile.lines().filter(|line| line.starts_with("COPY --from=build")).collect();
    assert_eq!(copies.len(), 2);
    for copy in copies {
        let prefix = "/src/target/release/";
        let copied: BTreeSet<_> = copy.split(' ').filter_map(|word| word.strip_prefix(prefix)).collect();
        assert_eq!(copied, binaries);
    }
    assert!(dockerfile.contains("\nUSER highwater\n"));
}
