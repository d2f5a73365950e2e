//! What the journeys of whole restores have in common.

use std::path::{Path, PathBuf};

use highwater_tests::postgres::Builder;
use highwater_tests::{Output, Postgres, Site};

/// A cluster with small segments that archives into the site's repository.
pub fn archiving(site: &Site, builder: Builder) -> Postgres {
    site.start_server(builder.wal_segment_size_mb(1))
}

/// Restores into a new folder of the site's, named `name`, with these arguments beside `--to`.
pub fn restore(site: &Site, name: &str, arguments: &[&str]) -> (PathBuf, Output) {
    let folder = site.path(name);
    let to = folder.display().to_string();
    let all = ["restore", "--quiet", "--to", &to].into_iter().chain(arguments.iter().copied());
    let output = site.highwater(all).run();
    (folder, output)
}

/// The restored server, when it has ended recovery.
#[track_caller]
pub fn recovered(folder: &Path) -> Postgres {
    Postgres::from_data_dir(folder).try_recover().unwrap_or_else(|failure| panic!("{failure}"))
}

/// Restores and recovers.
#[track_caller]
pub fn bring_back(site: &Site, name: &str, arguments: &[&str]) -> Postgres {
    let (folder, output) = restore(site, name, arguments);
    output.succeeds();
    recovered(&folder)
}

/// Takes a base backup and answers its label.
#[track_caller]
pub fn back_up(site: &Site) -> String {
    let report = site.highwater(["backup", "--json"]).run().succeeds().json();
    report["label"].as_str().expect("a backup has a label").to_owned()
}
