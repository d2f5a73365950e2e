//! A restored clone that is to live on archives when it is adopted, and not before (R5).

use highwater_tests::{CLUSTER, PATIENCE, Postgres, Site, StopMode};

use crate::restores::{archiving, back_up, bring_back, recovered};

/// A cluster with one row, archived and backed up, and its restored clone with its configured name `copy`.
fn scene(site: &Site) -> (Postgres, Postgres) {
    let original = archiving(site, Postgres::builder());
    original.sql("create table t (n int)");
    back_up(site);
    original.sql("insert into t values (1)");
    original.archive_now();
    let clone = bring_back(site, "clone", &["--latest"]);
    site.add_cluster("copy", &clone);
    (original, clone)
}

/// What `highwater adopt` tells to do: takes its settings back and archives under this name.
fn archive_as(site: &Site, clone: &Postgres, name: &str) {
    clone.sql("alter system reset archive_mode");
    clone.stop(StopMode::Fast);
    clone.start_again().unwrap_or_else(|failure| panic!("{failure}"));
    let folder = clone.data_dir().display();
    let command = site.archive_command().replace("%p", &format!("--cluster {name} %p"));
    clone.configure(
        "archive_command",
        &format!("HIGHWATER_CLUSTER_{}_DATA_DIRECTORY={folder} {command}", name.to_uppercase()),
    );
}

#[test]
fn r05_a_clone_becomes_a_cluster_of_its_own() {
    let site = Site::on_folder();
    let (original, clone) = scene(&site);
    let mark = clone.data_dir().join("highwater.clone");
    let connection = clone.connection_string();
    let as_original = ["adopt", "--cluster", CLUSTER];
    let refused = site.highwater(as_original).env("HIGHWATER_CLUSTER_MAIN_CONNECTION", &connection).run();
    refused.ends_with(2).says("beside its original").says("hint:");
    let dry = site.highwater(["adopt", "--cluster", "copy", "--dry-run"]).run().succeeds();
    dry.says("Would remove");
    assert!(mark.exists() && site.objects("clusters/copy").is_empty());

    let adopted = site.highwater(["adopt", "--cluster", "copy"]).run().succeeds();
    adopted.says("ALTER SYSTEM RESET archive_mode").says("highwater check");
    assert!(!mark.exists());
    archive_as(&site, &clone, "copy");
    let of_the_original = site.objects("clusters/main");
    clone.sql("insert into t values (2)");
    clone.archive_now();
    site.highwater(["backup", "--quiet", "--cluster", "copy"]).run().succeeds();
    clone.sql("insert into t values (3)");
    clone.archive_now();
    assert_eq!(site.objects("clusters/main"), of_the_original);

    let rows = |server: &Postgres| server.column("select n from t order by n").join(" ");
    for (name, cluster, expected) in [("from-copy", "copy", "1 2 3"), ("from-original", CLUSTER, "1")] {
        let restored = bring_back(&site, name, &["--latest", "--cluster", cluster]);
        assert_eq!(rows(&restored), expected);
    }
    // Again is no harm.
    site.highwater(["adopt", "--cluster", "copy"]).run().succeeds();
    drop(original);
}

#[test]
fn r05_a_clone_takes_the_place_of_an_original_that_is_gone() {
    let site = Site::on_folder();
    let (original, clone) = scene(&site);
    original.stop(StopMode::Fast);
    let adopted = site
        .highwater(["adopt", "--takeover", "--cluster", CLUSTER])
        .env("HIGHWATER_CLUSTER_MAIN_CONNECTION", clone.connection_string())
        .run();
    adopted.succeeds();
    archive_as(&site, &clone, CLUSTER);
    clone.sql("insert into t values (2)");
    clone.archive_now();
    clone.stop(StopMode::Fast);
    let folder = site.path("again");
    let to = folder.display().to_string();
    let arguments = ["restore", "--latest", "--quiet", "--cluster", CLUSTER, "--to", &to];
    site.highwater(arguments).run().succeeds();
    let restored = recovered(&folder);
    restored.wait_for("select count(*) = 2 from t", PATIENCE);
    assert_eq!(restored.column("select n from t order by n"), ["1", "2"]);
}
