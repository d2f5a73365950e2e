//! An encrypted repository whose database host has only the public key: it archives and backs up, and cannot read.

use highwater_tests::{Postgres, S3, Site, StopMode};

use crate::archive_command_refuses_other_content::key_pair;
use crate::restores::{archiving, back_up};

const IDENTITY: &str = "HIGHWATER_REPOSITORY_IDENTITY_FILE";

fn keys_apart(site: Site) {
    let (recipient, identity) = key_pair(&site);
    let site = site.repository_line(&format!("encrypt-to = ['{recipient}']"));
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t as select 1 n");
    back_up(&site);
    server.sql("insert into t values (2)");
    // A second one cannot read the first one's manifest, and is a full one.
    back_up(&site);
    server.sql("insert into t values (3)");
    server.archive_now();
    // What the server says is told without the identity, too.
    let status = site.highwater(["status"]).run().succeeds().says("not told without the identity");
    status.does_not_say("it is not in the repository").says("Archiver");
    server.stop(StopMode::Fast);
    site.highwater(["status"]).run().succeeds().says("ALARM").says("the server does not answer");

    let folder = site.path("restored");
    let to = folder.display().to_string();
    let arguments = ["restore", "--latest", "--quiet", "--to", &to];
    site.highwater(arguments).run().fails_clearly().says("identity").says("hint:");
    assert!(!folder.exists(), "R12: nothing is written that cannot be read");
    let elsewhere = Site::on_folder();
    let (other, wrong) = key_pair(&elsewhere);
    assert_ne!(other, recipient);
    site.highwater(arguments).env(IDENTITY, &wrong).run().fails_clearly().says("hint:");
    assert!(!folder.exists());

    site.highwater(arguments).env(IDENTITY, &identity).run().succeeds().says(IDENTITY);
    // The restored server fetches its WAL with the identity, too; without it, it does not open with less.
    let copy = Postgres::from_data_dir(&folder);
    let failure = copy.try_recover().expect_err("there is no identity to read the WAL with");
    assert!(failure.log.contains("hint:"), "{failure}");
    let identity = identity.display().to_string();
    let restored = Postgres::from_data_dir(&folder).env(IDENTITY, &identity).try_recover();
    let restored = restored.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(restored.column("select n from t order by n"), ["1", "2", "3"]);
}

#[test]
fn r06_the_public_key_archives_and_only_the_identity_restores() {
    keys_apart(Site::on_folder());
}

#[test]
fn r06_the_public_key_archives_and_only_the_identity_restores_on_s3() {
    keys_apart(Site::on_s3(S3::ceph()));
}
