//! Packs vanish from a repository, or lose their end: it is said, and the next backup does not rely on them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use highwater_tests::{Postgres, Site};

use crate::archive_command_refuses_other_content::key_pair;
use crate::restores::{archiving, back_up, bring_back, restore};

const DAMAGED: i32 = 4;

fn packs(site: &Site) -> Vec<PathBuf> {
    site.objects("/packs/")
}

/// A cluster with data worth several packs, and a backup of it.
fn backed_up(site: &Site) -> (Postgres, String) {
    let server = archiving(site, Postgres::builder());
    server.sql("create table t as select n, md5(n::text) || md5((n + 1)::text) as text from generate_series(1, 300000) as n");
    let label = back_up(site);
    assert!(packs(site).len() > 1, "there are several packs");
    (server, label)
}

/// Cuts a quarter of a file off.
fn cut(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() * 3 / 4).unwrap();
}

fn heals(site: &Site) {
    let (server, first) = backed_up(site);
    let all = packs(site);
    fs::remove_file(&all[0]).unwrap();
    all[1..].iter().for_each(|pack| cut(pack));
    let gone = all[0].file_name().unwrap().to_str().unwrap();
    let output = site.highwater(["backup"]).run().succeeds();
    output.says("missing or cut short").says(gone).says(&first).says("is complete");
    server.archive_now();
    let restored = bring_back(site, "restored", &["--latest"]);
    assert_eq!(restored.value("select count(distinct text) from t"), "300000");
    let again = site.highwater(["backup"]).run().succeeds();
    again.does_not_say("missing").says("taken over");
}

#[test]
fn r09_a_backup_does_not_rely_on_packs_that_are_gone_or_cut_short() {
    heals(&Site::on_folder());
}

#[test]
fn r09_a_backup_does_not_rely_on_encrypted_packs_that_are_gone_or_cut_short() {
    let site = Site::on_folder();
    let (recipient, identity) = key_pair(&site);
    let site = site
        .repository_line(&format!("encrypt-to = ['{recipient}']"))
        .repository_setting("identity-file", &identity.display().to_string());
    heals(&site);
}

#[test]
fn r12_a_missing_pack_is_said_with_the_file_and_what_to_do() {
    let site = Site::on_folder();
    let (server, _) = backed_up(&site);
    server.archive_now();
    // Whatever is in the way: a file that is needed beforehand, or one of the many.
    for pack in packs(&site) {
        let aside = pack.with_extension("aside");
        fs::rename(&pack, &aside).unwrap();
        let name = pack.file_name().unwrap().to_str().unwrap();
        let folder = format!("without-{name}");
        let (to, output) = restore(&site, &folder, &["--latest"]);
        output
            .ends_with(DAMAGED)
            .says(name)
            .says("cannot be restored: ")
            .says("--full")
            .does_not_say("compare the cluster");
        assert!(!to.join("global/pg_control").exists(), "R14");
        fs::rename(&aside, &pack).unwrap();
    }
}
