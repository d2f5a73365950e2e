//! What a verification has found is not built on: a plan goes another way and says so, or says that there is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::{Postgres, Site, StopMode, give_to_server_account};

use crate::restores::{archiving, back_up, bring_back, restore};

const DAMAGED: i32 = 4;

/// Flips a bit in the middle of an object; answers what was there.
fn hurt(object: &Path) -> Vec<u8> {
    let sound = fs::read(object).unwrap();
    let mut content = sound.clone();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    replace(object, &content);
    sound
}

fn replace(object: &Path, content: &[u8]) {
    fs::remove_file(object).unwrap();
    fs::write(object, content).unwrap();
    give_to_server_account(object);
}

#[test]
fn r12_a_plan_does_not_build_on_what_a_verification_has_found_damaged() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    let packs = || site.objects("/packs/").into_iter().collect::<BTreeSet<PathBuf>>();
    let fill = |from: u32| {
        server.sql(&format!(
            "insert into t select n, md5(n::text) from generate_series({from}, {from} + 4999) as n"
        ));
        server.archive_now()
    };
    server.sql("create table t (n int, text text)");
    fill(1);
    let first = back_up(&site);
    let of_first = packs();
    fill(10_001);
    let second = back_up(&site);
    let of_second: Vec<PathBuf> = packs().difference(&of_first).cloned().collect();
    let between = fill(20_001);
    fill(30_001);
    server.stop(StopMode::Fast);
    let plan = |arguments: &[&str]| site.highwater([&["plan"], arguments].concat()).run();
    let window = || site.highwater(["window"]).run().succeeds();
    let windows = || {
        let told = site.highwater(["window", "--json"]).run().succeeds().json();
        told[0].clone()
    };
    let verify = || site.highwater(["verify", "--deep"]).run();

    // WAL that was found damaged is read again: it may have been mended since.
    let segment = site.objects(&between).remove(0);
    let sound = hurt(&segment);
    plan(&["--latest"]).succeeds();
    verify().ends_with(DAMAGED).says(&between);
    plan(&["--latest"]).ends_with(DAMAGED).says(&between).says("hint:");
    plan(&["--immediate"]).succeeds();
    let cut = windows();
    assert_eq!(cut["windows"][0]["hole_after"]["first"], between, "{cut:#}");
    window().says(&format!("HOLE: missing is segment {between}")).says("DAMAGED and counted as missing");
    site.highwater(["list"]).run().succeeds().says("found 1 segment of WAL damaged");
    replace(&segment, &sound);
    plan(&["--latest"]).succeeds().says(&second).does_not_say("passed over");
    let whole = windows();
    assert!(whole["windows"][0]["hole_after"].is_null(), "it was mended: {whole:#}");

    // Of two backups the older one is taken.
    let pack = hurt(&of_second[0]);
    verify().ends_with(DAMAGED).says(&second);
    let planned = plan(&["--latest"]).succeeds();
    planned.says(&first).says(&format!("backup {second} is newer and was passed over: the verification of"));
    let named = plan(&["--latest", "--backup", &second]).succeeds();
    named.says(&format!("WARNING: backup {second} was asked for by name"));
    site.highwater(["list"]).run().succeeds().says(&format!("DAMAGED: {second}, the verification of"));
    let listed = site.highwater(["list", "--json"]).run().succeeds().json();
    let damaged = |label: &str| {
        let backups = listed["backups"].as_array().unwrap();
        backups.iter().find(|backup| backup["label"] == label).unwrap()["found_damaged"].is_string()
    };
    assert!(damaged(&second) && !damaged(&first), "{listed:#}");
    window().says(&format!("backup {second}, found DAMAGED")).says("no moment depends on it");
    let without = windows();
    assert_eq!(without["doubted"][0]["backup"], second, "{without:#}");
    assert_eq!(without["windows"], {
        let mut windows = whole["windows"].clone();
        windows[0]["backups"] = serde_json::json!([first]);
        windows
    });
    let restored = bring_back(&site, "sound", &["--latest"]);
    assert_eq!(restored.value("select count(*) from t"), "20000");
    drop(restored);

    // Where there is none that is sound, nothing is begun. The second has taken over what the first has.
    let shared = of_first.iter().next().unwrap();
    let sound = hurt(shared);
    let behind = hurt(&segment);
    verify().ends_with(DAMAGED).says(&first);
    plan(&["--immediate"]).ends_with(DAMAGED).says("from damaged backups only");
    plan(&["--latest"]).ends_with(DAMAGED).says("from damaged backups only").says("--backup");
    let (folder, output) = restore(&site, "nothing", &["--latest"]);
    output.ends_with(DAMAGED).says("from damaged backups only");
    assert!(!folder.exists());
    assert_eq!(windows()["windows"], serde_json::json!([]));
    window()
        .says("no backup that is not damaged leads here")
        .says("no backup that is not damaged leads to the moments");

    // What was brought back is believed when it was proven.
    replace(&segment, &behind);
    replace(shared, &sound);
    replace(&of_second[0], &pack);
    plan(&["--latest"]).ends_with(DAMAGED);
    verify().succeeds();
    plan(&["--latest"]).succeeds().says(&second).does_not_say("passed over");
    assert_eq!(windows()["windows"], whole["windows"]);
    window().does_not_say("DAMAGED");
    site.highwater(["list"]).run().succeeds().does_not_say("DAMAGED");
}
