//! What `highwater-restore-cmd` hands over was verified (R7) and is complete or not there at all (R8).

use std::fs;
use std::thread;
use std::time::Instant;

use highwater_tests::{Postgres, Site, StopMode};

use crate::archive_command_refuses_other_content::key_pair;
use crate::commands::{
    DAMAGED, FAILED, Lab, NOT_THERE, USAGE, archive, fetch, fill_segments, read, small_segments,
    start_quiet_server,
};

/// How often the command is killed.
const KILLS: u32 = 50;
/// How many places of an object are damaged, one at a time.
const PLACES: usize = 60;

/// A repository with `count` segments, and a data directory like the server's to fetch into.
fn scene(site: &Site, count: usize) -> (Lab, Vec<String>, Vec<Vec<u8>>) {
    let server = start_quiet_server(site, small_segments());
    let names = fill_segments(&server, count);
    let contents = names.iter().map(|name| read(&server.data_dir().join("pg_wal").join(name))).collect();
    for name in &names {
        archive(site, server.data_dir(), name).run().succeeds();
    }
    let lab = Lab::empty(site, "restored", server.data_dir());
    server.stop(StopMode::Fast);
    (lab, names, contents)
}

fn entries(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.0.join("pg_wal")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn damage_is_found(site: &Site) {
    let (lab, names, contents) = scene(site, 2);
    let object = site.objects(&names[0]).remove(0);
    let good = read(&object);
    for place in 0..PLACES {
        let at = place * (good.len() - 1) / (PLACES - 1);
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (place % 8);
        fs::write(&object, &damaged).unwrap();
        let output = fetch(site, &lab.0, &names[0], "pg_wal/RECOVERYXLOG").run();
        // A bit that means nothing, such as one in the summary's text, may change. What is handed over may not.
        if output.status.success() {
            assert!(read(&lab.0.join("pg_wal/RECOVERYXLOG")) == contents[0], "byte {at}");
            fs::remove_file(lab.0.join("pg_wal/RECOVERYXLOG")).unwrap();
        } else {
            let status = output.status.code();
            assert!(status == Some(DAMAGED) || status == Some(FAILED), "byte {at}: {output}");
            assert!(output.stderr.contains("hint: "), "byte {at}: {output}");
        }
        assert_eq!(entries(&lab), [""; 0], "byte {at}");
    }
    for length in [0, 1, 8, 100, good.len() / 2, good.len() - 1] {
        fs::write(&object, &good[..length]).unwrap();
        fetch(site, &lab.0, &names[0], "pg_wal/RECOVERYXLOG").run().ends_with(DAMAGED).says("hint: ");
        assert_eq!(entries(&lab), [""; 0], "cut at {length}");
    }
    // Another segment's object under its name, which is sound in itself.
    fs::write(&object, read(&site.objects(&names[1])[0])).unwrap();
    fetch(site, &lab.0, &names[0], "pg_wal/RECOVERYXLOG").run().ends_with(DAMAGED);
    assert_eq!(entries(&lab), [""; 0]);

    fs::write(&object, &good).unwrap();
    fetch(site, &lab.0, &names[0], "pg_wal/RECOVERYXLOG").run().succeeds().silently();
    assert!(read(&lab.0.join("pg_wal/RECOVERYXLOG")) == contents[0]);
}

#[test]
fn r07_no_damage_is_handed_over() {
    damage_is_found(&Site::on_folder());
}

#[test]
fn r07_no_damage_is_handed_over_with_zstd() {
    damage_is_found(&Site::on_folder().repository_setting("compression", "zstd"));
}

#[test]
fn r07_no_damage_is_handed_over_from_an_encrypted_repository() {
    let site = Site::on_folder();
    let (recipient, identity) = key_pair(&site);
    let site = site
        .repository_line(&format!("encrypt-to = ['{recipient}']"))
        .repository_setting("identity-file", &identity.display().to_string());
    damage_is_found(&site);
}

#[test]
fn r07_another_cluster_s_segment_is_not_handed_over() {
    let site = Site::on_folder();
    let (lab, names, _) = scene(&site, 1);
    let mut control = read(&lab.0.join("global/pg_control"));
    // The same archive under another system identifier, as a hand that copies folders may leave it.
    control[0] ^= 1;
    lab.file("global/pg_control", &control);
    let section = site.objects("cluster.json").remove(0).parent().unwrap().to_owned();
    let known = section.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let other = section.with_file_name((known ^ 1).to_string());
    fs::rename(&section, &other).unwrap();
    fetch(&site, &lab.0, &names[0], "pg_wal/RECOVERYXLOG").run().ends_with(DAMAGED).says("another segment");
    assert_eq!(entries(&lab), [""; 0]);
}

#[test]
fn r08_killed_at_fifty_moments_it_never_leaves_half_a_file() {
    let site = Site::on_folder();
    let (lab, names, contents) = scene(&site, 1);
    let place = lab.0.join("pg_wal/RECOVERYXLOG");
    let ask = || fetch(&site, &lab.0, &names[0], "pg_wal/RECOVERYXLOG");
    let begun = Instant::now();
    ask().run().succeeds();
    let usual = begun.elapsed();
    let mut whole = 0;
    for round in 0..KILLS {
        let _ = fs::remove_file(&place);
        let running = ask().start();
        thread::sleep(usual * round / KILLS);
        running.kill9();
        if place.exists() {
            whole += 1;
            assert!(read(&place) == contents[0], "round {round}");
        }
        assert!(entries(&lab).len() <= 1, "{:?}", entries(&lab));
    }
    assert!(whole < KILLS, "none was killed before it was done");
    // What the killed ones have left is taken over, and what lay there is replaced.
    fs::write(&place, "stale").unwrap();
    ask().run().succeeds();
    assert_eq!(entries(&lab), ["RECOVERYXLOG"]);
    assert!(read(&place) == contents[0]);
}

#[test]
fn r06_not_there_takes_an_answer_and_no_later_file() {
    let site = Site::on_folder();
    let (lab, names, _) = scene(&site, 3);
    let ask = |name: &str| fetch(&site, &lab.0, name, "pg_wal/RECOVERYXLOG");
    let behind = |name: &str| format!("{:024X}", u128::from_str_radix(name, 16).unwrap() + 1);
    let next = behind(&names[2]);
    // PostgreSQL asks for what comes next, for the histories of timelines that may be there, and for both on others.
    for name in [next.as_str(), "00000002.history", "00000001.history", &format!("00000002{}", &next[8..])] {
        ask(name).run().ends_with(NOT_THERE).silently();
    }
    let object = site.objects(&names[1]).remove(0);
    fs::remove_file(&object).unwrap();
    ask(&names[1]).run().ends_with(DAMAGED).says(&names[2]).says("hint: ");

    // The last one went, but a later timeline's history says that the WAL went on.
    fs::remove_file(site.objects(&names[2]).remove(0)).unwrap();
    let switched = (u64::from_str_radix(&next[16..], 16).unwrap() << 20) + 0x1000;
    let history = format!("1\t0/{switched:X}\tno recovery target specified\n");
    lab.archive_content(&site, "00000002.history", history.as_bytes()).succeeds();
    ask(&names[2]).run().ends_with(DAMAGED).says("00000002.history");
    for name in [&next, &behind(&next)] {
        ask(name).run().ends_with(NOT_THERE);
    }
    ask("00000002.history").run().succeeds();

    // A history that went while its timeline, or a later one that comes from it, is there: without it PostgreSQL would
    // take the timeline before for the newest, and open there.
    lab.archive_content(&site, "00000003.history", format!("{history}\n2\t7F/0\tx\n").as_bytes()).succeeds();
    fs::remove_file(site.objects("00000002.history").remove(0)).unwrap();
    ask("00000002.history").run().ends_with(DAMAGED).says("00000003.history").says("hint: ");
    fs::remove_file(site.objects("00000003.history").remove(0)).unwrap();
    ask("00000002.history").run().ends_with(NOT_THERE);
    let of_timeline_2 = site.objects(&names[0]).remove(0);
    let folder = of_timeline_2.parent().unwrap().with_file_name("00000002");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("00000002{}", &names[0][8..])), read(&of_timeline_2)).unwrap();
    ask("00000002.history").run().ends_with(DAMAGED).says("hint: ");
}

#[test]
fn r06_bad_usage_is_never_not_there() {
    let site = Site::on_folder();
    let (lab, names, _) = scene(&site, 1);
    let name = names[0].as_str();
    let program = |arguments: &[&str]| site.program("highwater-restore-cmd", arguments).in_folder(&lab.0);
    for (arguments, status) in [
        (&[][..], USAGE),
        (&[name], USAGE),
        (&["nonsense", "x"], USAGE),
        (&["--nonsense", name, "x"], USAGE),
        (&["--config", "/nowhere.toml", name, "x"], USAGE),
        (&["--cluster", "nobody", name, "x"], FAILED),
        (&["--system-id", "1", name, "x"], FAILED),
        (&[name, "missing/x"], FAILED),
        (&[name, "pg_wal"], FAILED),
    ] {
        program(arguments).run().ends_with(status).fails_clearly().says("hint: ");
    }
    for (variable, value) in [
        ("HIGHWATER_REPOSITORY_COMPRESION", "lz4"),
        ("HIGHWATER_REPOSITORY_URL", "ftp://somewhere"),
        ("HIGHWATER_CLUSTER_OTHER_DATA_DIRECTORY", "/nowhere"),
    ] {
        let output = program(&[name, "x"]).env(variable, value).run();
        assert!(output.status.code().is_some_and(|status| status >= FAILED), "{variable}: {output}");
        assert!(output.stderr.contains("hint: "), "{variable}: {output}");
    }
    let help = program(&["--help"]).run().succeeds();
    assert!(help.stdout.contains("restore_command") && help.stderr.is_empty(), "{help}");
    program(&["--version"]).run().succeeds().says("highwater-restore-cmd ");
}

#[test]
fn a_segment_is_fetched_by_hand_outside_of_a_data_directory() {
    let site = Site::on_folder();
    let (_, names, contents) = scene(&site, 1);
    let folder = site.path("elsewhere");
    fs::create_dir(&folder).unwrap();
    highwater_tests::give_to_server_account(&folder);
    fetch(&site, &folder, &names[0], "x").args(["--verbose"]).run().succeeds().says("fetched from");
    assert!(read(&folder.join("x")) == contents[0]);
    // With two clusters of that name, as after pg_upgrade, it has to be told which.
    let other: Postgres = small_segments().start();
    let control = read(&other.data_dir().join("global/pg_control"));
    let known = site.objects("cluster.json").remove(0);
    let id = u64::from_le_bytes(control[..8].try_into().unwrap()).to_string();
    let section = known.parent().unwrap().with_file_name(&id);
    fs::create_dir(&section).unwrap();
    fs::write(section.join("cluster.json"), read(&known)).unwrap();
    fetch(&site, &folder, &names[0], "y").run().ends_with(USAGE).says("--system-id");
    let known = known.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    fetch(&site, &folder, &names[0], "y").args(["--system-id", &known]).run().succeeds();
}
