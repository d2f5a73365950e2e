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
    let verify = || site.highwater(["verify", "--deep"]).run();

    // WAL that was found damaged is read again: it may have been mended since.
    let segment = site.objects(&between).remove(0);
    let sound = hurt(&segment);
    plan(&["--latest"]).succeeds();
    verify().ends_with(DAMAGED).says(&between);
    plan(&["--latest"]).ends_with(DAMAGED).says(&between).says("hint:");
    plan(&["--immediate"]).succeeds();
    replace(&segment, &sound);
    plan(&["--latest"]).succeeds().says(&second).does_not_say("passed over");

    // Of two backups the older one is taken.
    let pack = hurt(&of_second[0]);
    verify().ends_with(DAMAGED).says(&second);
    let planned = plan(&["--latest"]).succeeds();
    planned.says(&first).says(&format!("backup {second} is newer and was passed over: the verification of"));
    let named = plan(&["--latest", "--backup", &second]).succeeds();
    named.says(&format!("WARNING: backup {second} was asked for by name"));
    let restored = bring_back(&site, "sound", &["--latest"]);
    assert_eq!(restored.value("select count(*) from t"), "20000");
    drop(restored);

    // Where there is none that is sound, nothing is begun. The second has taken over what the first has.
    let shared = of_first.iter().next().unwrap();
    let sound = hurt(shared);
    verify().ends_with(DAMAGED).says(&first);
    plan(&["--latest"]).ends_with(DAMAGED).says("from damaged backups only").says("--backup");
    let (folder, output) = restore(&site, "nothing", &["--latest"]);
    output.ends_with(DAMAGED).says("from damaged backups only");
    assert!(!folder.exists());

    // What was brought back is believed when it was proven.
    replace(shared, &sound);
    replace(&of_second[0], &pack);
    plan(&["--latest"]).ends_with(DAMAGED);
    verify().succeeds();
    plan(&["--latest"]).succeeds().says(&second).does_not_say("passed over");
}
