//! `highwater init` and `highwater check` tell the truth about hosts of every kind, and what is to be done.

use std::fs;

use highwater_tests::{CLUSTER, Postgres, Site, StopMode};

use crate::archive_command_refuses_other_content::key_pair;
use crate::restores::{archiving, back_up, bring_back};

#[test]
fn a_host_with_only_the_public_key_passes_the_check() {
    let site = Site::on_folder();
    let (recipient, _) = key_pair(&site);
    let site = site.repository_line(&format!("encrypt-to = ['{recipient}']"));
    let server = archiving(&site, Postgres::builder());
    let checked = site.highwater(["check"]).run().succeeds();
    checked
        .says("with the server's digest")
        .says("as is meant")
        .does_not_say("WRONG")
        .does_not_say("read back:");
    let json = site.highwater(["check", "--json"]).run().succeeds().json();
    assert_eq!(json["round_trip"]["proof"], "digest");
    drop(server);
}

#[test]
fn an_init_with_a_new_key_tells_what_an_existing_configuration_lacks() {
    let site = Site::on_folder();
    let server = Postgres::start();
    site.add_cluster(CLUSTER, &server);
    let (identity, passphrase) = (site.path("new-identity.txt"), site.path("passphrase"));
    fs::write(&passphrase, "correct horse\n").unwrap();
    highwater_tests::give_to_server_account(&passphrase);
    let before = fs::read_to_string(site.config()).unwrap();
    for (option, path, setting) in [
        ("--new-identity", identity, "identity-file"),
        ("--new-passphrase-file", passphrase, "passphrase-file"),
    ] {
        let path = path.display().to_string();
        let told = site.highwater(["init", option, &path]).run().succeeds();
        let told = told
            .says("encrypt-to = [\"age1")
            .says(&format!("{setting} = \"{path}\""))
            .says("Nothing is encrypted");
        told.does_not_say("Encrypted to");
    }
    assert_eq!(fs::read_to_string(site.config()).unwrap(), before);
}

#[test]
fn an_archive_begun_after_a_promotion_has_the_history_of_its_timeline() {
    for command in [&["init"][..], &["check"]] {
        let site = Site::on_folder();
        let primary = archiving(&site, Postgres::builder());
        let standby = primary.standby("next").start();
        primary.stop(StopMode::Fast);
        standby.promote();
        fs::remove_dir_all(site.repository_folder()).unwrap();
        let here = |words: &[&str]| {
            let program = site.highwater(words.iter().copied());
            program.env("HIGHWATER_CLUSTER_MAIN_CONNECTION", standby.connection_string()).run()
        };
        here(&["init"]).succeeds().does_not_say("not in the repository yet");
        let history = site.objects("00000002.history");
        assert_eq!(history.len(), 1);
        if command == ["check"] {
            fs::remove_file(&history[0]).unwrap();
            // What else the check finds is of no matter here.
            here(&["check", "--timeout", "1s"]);
        }
        assert_eq!(site.objects("00000002.history"), history);
    }
}

#[test]
fn a_check_reminds_of_the_target_of_an_earlier_recovery() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    back_up(&site);
    server.archive_now();
    server.configure("archive_command", "true");
    let told = site.highwater(["check", "--settings-only"]).run().ends_with(1);
    told.says(&format!("highwater-archive-cmd --config {} %p", site.config().display()));
    server.stop(StopMode::Fast);
    let restored = bring_back(&site, "restored", &["--latest"]);
    let check = || {
        let program = site.highwater(["check", "--settings-only"]);
        program.env("HIGHWATER_CLUSTER_MAIN_CONNECTION", restored.connection_string()).run()
    };
    let resets = ["recovery_target_lsn", "recovery_target_timeline"];
    let told = check();
    let told = resets.iter().fold(told, |told, name| told.says(&format!("ALTER SYSTEM RESET {name};")));
    told.says("SELECT pg_reload_conf();");
    for name in resets {
        restored.sql(&format!("alter system reset {name}"));
    }
    restored.sql("select pg_reload_conf()");
    restored.wait_for(
        "select count(*) = 2 from pg_settings where name like 'recovery_target%' and pending_restart",
        highwater_tests::PATIENCE,
    );
    check().does_not_say("ALTER SYSTEM RESET");
}
