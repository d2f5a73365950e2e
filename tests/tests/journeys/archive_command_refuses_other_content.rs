//! Nothing is overwritten (R2): the same content again is a success, other content is refused (R3).

use std::fs;
use std::path::Path;
use std::process::Command;

use highwater_tests::{Postgres, Site, StopMode};

use crate::commands::{
    Lab, archive, assert_archived, assert_refused, fill_segments, read, small_segments, start_quiet_server,
};

/// Keys for an encrypted repository: the public one, and the file of the private one.
pub fn key_pair(site: &Site) -> (String, std::path::PathBuf) {
    let file = site.path("identity.txt");
    let output = Command::new("age-keygen").output().expect("age-keygen is there; hint: run scripts/setup");
    let text = String::from_utf8(output.stdout).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    fs::write(&file, text).unwrap();
    highwater_tests::give_to_server_account(&file);
    (recipient, file)
}

#[test]
fn r03_the_same_again_is_a_success() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let name = fill_segments(&server, 1).remove(0);
    let history = "00000002.history";
    let lab = Lab(server.data_dir().to_owned());
    lab.file("pg_wal/00000002.history", b"1\t0/5000000\tno recovery target specified\n");
    for name in [name.as_str(), history] {
        archive(&site, &lab.0, name).run().succeeds().silently();
        let before = read(&site.objects(&format!("/{name}"))[0]);
        archive(&site, &lab.0, name).run().succeeds().silently();
        archive(&site, &lab.0, name).args(["-v"]).run().succeeds().says("already, with the same content");
        assert!(before == read(&site.objects(&format!("/{name}"))[0]), "R2: {name} was changed");
    }
}

/// PostgreSQL removes its copy once it is told that the file is archived: what is there is read, not believed.
#[test]
fn r03_a_damaged_object_is_not_taken_for_the_same() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let name = fill_segments(&server, 1).remove(0);
    let data = server.data_dir();
    archive(&site, data, &name).run().succeeds();
    let object = site.objects(&format!("/{name}")).remove(0);
    let good = read(&object);
    let head = 8 + u32::from_le_bytes(good[4..8].try_into().unwrap()) as usize;
    // More than one byte: LZ4 has more than one way to say the same, and one byte of an offset can be another of them.
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at..at + 64].iter_mut().for_each(|byte| *byte ^= 0x10);
        bytes
    };
    for damaged in
        [good[..head].to_vec(), good[..head + 20].to_vec(), flipped(head + 5000), flipped(good.len() / 2)]
    {
        fs::write(&object, damaged).unwrap();
        assert_refused(archive(&site, data, &name).run(), 4).says(&name).says("damaged").says("hint:");
    }
    // Moved away, it is archived anew.
    fs::remove_file(&object).unwrap();
    archive(&site, data, &name).run().succeeds();
    assert_archived(&site, data, &name);
}

#[test]
fn r03_two_primaries_on_one_timeline_are_told_apart() {
    split_brain(&Site::on_folder(), |_, _| Some(()));
}

#[test]
fn r03_a_host_with_only_the_public_key_can_tell_too() {
    let site = Site::on_folder();
    let (recipient, identity) = key_pair(&site);
    let site = site.repository_line(&format!("encrypt-to = ['{recipient}']"));
    split_brain(&site, |site, name| {
        let objects = site.objects(&format!("/{name}"));
        assert!(read(&objects[0]).starts_with(b"age-encryption.org/v1"));
        None
    });
    // Who has the private key reads what was archived without it.
    let object = site.objects("/wal/00000001/00000001").remove(0);
    let name = object.file_name().unwrap().to_str().unwrap().to_owned();
    let folder = site.path("reader");
    fs::create_dir(&folder).unwrap();
    highwater_tests::give_to_server_account(&folder);
    let ask = || site.program("highwater-restore-cmd", [&name, "fetched"]).in_folder(&folder);
    assert_refused(ask().run(), 200);
    ask().env("HIGHWATER_REPOSITORY_IDENTITY_FILE", &identity).run().succeeds();
}

/// A copy of a cluster is started as another primary. What the first has archived stays, the second is refused. `readable`
/// says whether the object tells who put it there.
fn split_brain(site: &Site, readable: impl Fn(&Site, &str) -> Option<()>) {
    let first = start_quiet_server(site, small_segments());
    let copy = first.folder().join("copy");
    first.copy_to(&copy);
    let second = Postgres::from_data_dir(&copy).start();
    let names = fill_segments(&first, 3);
    for name in &names {
        archive(site, first.data_dir(), name).run().succeeds();
    }
    let contested = fill_segments(&second, 3).into_iter().find(|name| names.contains(name));
    let contested = contested.expect("both have written segments of one name");
    let before = read(&site.objects(&format!("/{contested}"))[0]);

    let output = Lab(copy.clone()).archive(site, &contested).run();
    let output = assert_refused(output, 1)
        .says("other content")
        .says("nothing was changed")
        .says("PostgreSQL keeps its file")
        .says("highwater-restore-cmd")
        .says("pg_waldump");
    assert_eq!(output.stderr.matches("digest ").count(), 2, "both digests: {output}");
    let host = Command::new("uname").arg("-n").output().unwrap().stdout;
    let host = format!("archived by host {} at 20", String::from_utf8(host).unwrap().trim());
    assert_eq!(output.stderr.contains(&host), readable(site, &contested).is_some(), "{output}");
    assert!(before == read(&site.objects(&format!("/{contested}"))[0]), "R2: it was changed");
    assert!(second.is_running());
    second.stop(StopMode::Fast);
}

#[test]
fn r03_histories_and_backup_labels_are_not_replaced_either() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let lab = Lab(server.data_dir().to_owned());
    let label = |time: &str| {
        format!("START WAL LOCATION: 0/200028 (file 000000010000000000000002)\nSTART TIME: {time}\n")
            .into_bytes()
    };
    for (name, first, other) in [
        (
            "00000002.history",
            b"1\t0/5000000\tno recovery target specified\n".to_vec(),
            b"1\t0/6000000\tno recovery target specified\n".to_vec(),
        ),
        ("000000010000000000000002.00000028.backup", label("one"), label("two")),
    ] {
        lab.archive_content(&site, name, &first).succeeds();
        assert_refused(lab.archive_content(&site, name, &other), 1).says("other content");
        lab.file(&format!("pg_wal/{name}"), &first);
        assert_archived(&site, Path::new(&lab.0), name);
    }
}
