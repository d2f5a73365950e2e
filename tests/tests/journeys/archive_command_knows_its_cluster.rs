//! A cluster archives into its own archive only (R5).

use std::fs;

use highwater_tests::{Postgres, Site};

use crate::commands::{
    Lab, archive, assert_archived, assert_not_archived, assert_refused, fill_segments, read, small_segments,
    start_quiet_server,
};

#[test]
fn r05_a_clone_cannot_archive_into_its_origin_s_archive() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let name = fill_segments(&server, 1).remove(0);
    let data = server.data_dir();
    let control = read(&data.join("global/pg_control"));
    let system_id = u64::from_le_bytes(control[..8].try_into().unwrap());
    let lab = Lab(data.to_owned());
    // As highwater restore writes it.
    let mark = |kind: &str| {
        let text = format!(
            r#"{{"version": 1, "kind": "{kind}", "cluster": "main", "system_id": "{system_id}",
            "restore_id": "0123456789abcdef0123456789abcdef", "restored_at": "2026-11-20T12:00:00Z", "target": "--latest"}}"#
        );
        lab.file("highwater.clone", text.as_bytes());
    };
    mark("clone");
    assert_refused(archive(&site, data, &name).run(), 1)
        .says("clone of cluster main")
        .says("2026-11-20")
        .says("highwater adopt");
    // Nor by any other way to the same file.
    let elsewhere = site.path("");
    let from = |folder: &std::path::Path, path: String| {
        site.program("highwater-archive-cmd", [path]).in_folder(folder)
    };
    let above = data.strip_prefix("/").unwrap().display();
    for refused in [
        from(&data.join("pg_wal"), name.clone()),
        from(&elsewhere, data.join("pg_wal").join(&name).display().to_string()),
        from(&elsewhere, format!("../../../../../../{above}/pg_wal/{name}")),
    ] {
        assert_refused(refused.run(), 1).says("clone of cluster main");
    }
    // Damaged is not gone.
    fs::write(data.join("highwater.clone"), "{").unwrap();
    assert_refused(archive(&site, data, &name).run(), 1);
    assert_not_archived(&site, &name);

    mark("takeover");
    archive(&site, data, &name).run().succeeds();
    assert_archived(&site, data, &name);
}

#[test]
fn r05_the_current_folder_is_the_configured_data_directory() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let name = fill_segments(&server, 1).remove(0);
    let data = server.data_dir();
    let copy = Lab::empty(&site, "copy", data);
    copy.file(&format!("pg_wal/{name}"), &read(&data.join("pg_wal").join(&name)));
    assert_refused(archive(&site, &copy.0, &name).run(), 2)
        .says(&data.display().to_string())
        .says("data-directory");
    assert_not_archived(&site, &name);

    // Whichever way it is reached.
    let link = site.path("link");
    std::os::unix::fs::symlink(data, &link).unwrap();
    archive(&site, &link, &name).run().succeeds();
    let path = data.join("pg_wal").join(&name);
    site.program("highwater-archive-cmd", [&path]).run().succeeds();
    assert_refused(site.program("highwater-archive-cmd", [copy.0.join("pg_wal").join(&name)]).run(), 2);
}

#[test]
fn r05_a_new_system_identifier_must_be_made_known() {
    let site = Site::on_folder();
    let known = start_quiet_server(&site, small_segments());
    let other = small_segments().start();
    let name = fill_segments(&other, 1).remove(0);
    let lab = Lab(other.data_dir().to_owned());
    assert_refused(lab.archive(&site, &name).run(), 1).says("is not known").says("highwater adopt");
    assert_not_archived(&site, &name);
    lab.archive(&site, &name)
        .env("HIGHWATER_REPOSITORY_URL", "file:///nowhere")
        .run()
        .ends_with(1)
        .says("hint: ");
    drop(known);
}

#[test]
fn r22_bad_usage_and_configuration_are_told_and_change_nothing() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let name = fill_segments(&server, 1).remove(0);
    let path = format!("pg_wal/{name}");
    let data = server.data_dir();
    let program = |arguments: &[&str]| site.program("highwater-archive-cmd", arguments).in_folder(data);
    for (arguments, status) in [
        (&[][..], 2),
        (&["--nonsense", &path], 2),
        (&["--cluster", "nobody", &path], 2),
        (&["--config", "/nowhere.toml", &path], 2),
        (&["pg_wal/nonsense"], 1),
        (&["pg_wal/0000000100000000000000FF"], 1),
        (&["pg_wal"], 1),
    ] {
        assert_refused(program(arguments).run(), status);
    }
    for (variable, value) in [
        ("HIGHWATER_REPOSITORY_COMPRESION", "lz4"),
        ("HIGHWATER_REPOSITORY_COMPRESSION", "gzip"),
        ("HIGHWATER_REPOSITORY_ENCRYPT_TO", "age1nonsense"),
        ("HIGHWATER_REPOSITORY_URL", "ftp://somewhere"),
        ("HIGHWATER_CLUSTER_OTHER_DATA_DIRECTORY", "/nowhere"),
    ] {
        let output = program(&[&path]).env(variable, value).run();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{variable}: {output}");
        assert!(output.stderr.contains("hint: "), "{variable}: {output}");
    }
    assert_not_archived(&site, &name);
    let help = program(&["--help"]).run().succeeds();
    assert!(help.stdout.contains("archive_command") && help.stderr.is_empty(), "{help}");
    program(&["--version"]).run().succeeds().says("highwater-archive-cmd ");
}

#[test]
fn r05_two_clusters_in_one_configuration_are_told_apart_by_name() {
    let site = Site::on_folder();
    let one = start_quiet_server(&site, small_segments());
    let two: Postgres = small_segments().start();
    site.add_cluster("two", &two);
    let name = fill_segments(&one, 1).remove(0);
    assert_refused(archive(&site, one.data_dir(), &name).run(), 2).says("--cluster");
    assert_refused(archive(&site, one.data_dir(), &name).args(["--cluster", "two"]).run(), 2);
    archive(&site, one.data_dir(), &name).args(["--cluster", "main"]).run().succeeds();
}
