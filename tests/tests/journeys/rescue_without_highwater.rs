//! A repository needs no trust in Highwater: a short script with stock tools restores it.

use std::path::Path;

use highwater_tests::{CLUSTER, Postgres, Program, Site, StopMode};

use crate::archive_command_refuses_other_content::key_pair;
use crate::restores::{archiving, back_up};

fn script() -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    std::fs::read_to_string(workspace.join("contrib/rescue.py")).unwrap()
}

fn rescued(site: &Site, identity: Option<&Path>) {
    let server = archiving(site, Postgres::builder());
    let place = server.tablespace("fast");
    server.sql("create table t (n int) tablespace fast; insert into t select generate_series(1, 3000)");
    back_up(site);
    server.sql("insert into t values (0)");
    server.archive_now();
    server.stop(StopMode::Fast);

    let (data, wal, moved) = (site.path("rescued"), site.path("rescued-wal"), site.path("rescued-fast"));
    let program = site.path("rescue.py");
    std::fs::write(&program, script()).unwrap();
    let mapping = format!("{}={}", place.display(), moved.display());
    let mut arguments: Vec<String> =
        [&program, &site.repository_folder()].map(|path| path.display().to_string()).into();
    arguments.extend([CLUSTER.to_owned(), "--tablespace".to_owned(), mapping]);
    for (option, path) in [("--to", Some(data.as_path())), ("--wal", Some(&wal)), ("--identity", identity)] {
        arguments.extend(path.into_iter().flat_map(|path| [option.to_owned(), path.display().to_string()]));
    }
    Program::new("/usr/bin/python3", arguments).run().succeeds().says("consistent from");

    std::fs::write(data.join("recovery.signal"), "").unwrap();
    let command = format!("cp {}/%f %p", wal.display());
    let builder =
        Postgres::from_data_dir(&data).setting("archive_mode", "off").setting("restore_command", &command);
    let restored = builder.try_recover().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(restored.value("select count(*) from t"), "3001");
    let location =
        restored.value("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'");
    assert_eq!(location, moved.display().to_string());
}

#[test]
fn a_plain_repository_is_restored_by_the_script() {
    rescued(&Site::on_folder(), None);
}

#[test]
fn an_encrypted_one_with_zstd_is_restored_with_the_identity() {
    let site = Site::on_folder();
    let (recipient, identity) = key_pair(&site);
    let site = site
        .repository_setting("compression", "zstd")
        .repository_line(&format!("encrypt-to = ['{recipient}']"))
        .repository_setting("identity-file", &identity.display().to_string());
    rescued(&site, Some(&identity));
}

#[test]
fn the_script_stays_short_enough_to_be_read_first() {
    assert!(script().lines().count() <= 200);
}
