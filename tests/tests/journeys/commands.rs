//! What the journeys of `highwater-archive-cmd` and `highwater-restore-cmd` have in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use highwater_tests::postgres::Builder;
use highwater_tests::{CLUSTER, Output, Postgres, Program, Site, StopMode, give_to_server_account};

/// Statuses of `highwater-restore-cmd`, as docs/EXIT-CODES.md has them.
pub const NOT_THERE: i32 = 1;
pub const FAILED: i32 = 200;
pub const DAMAGED: i32 = 201;
pub const USAGE: i32 = 202;

/// A new cluster with small segments, which keeps all of its WAL.
pub fn small_segments() -> Builder {
    Postgres::builder().wal_segment_size_mb(1).setting("wal_keep_size", "1GB")
}

/// A cluster that the site's repository knows, and that archives nothing by itself.
pub fn start_quiet_server(site: &Site, builder: Builder) -> Postgres {
    let server = builder.start();
    site.add_cluster(CLUSTER, &server);
    site.highwater(["init"]).run().succeeds();
    server
}

/// Fills `count` segments with rows that hardly compress, and answers their names.
pub fn fill_segments(server: &Postgres, count: usize) -> Vec<String> {
    server.sql("create table if not exists filler (content text)");
    let segment = |_| {
        server.sql(
            "insert into filler select md5(random()::text) || md5(random()::text) from generate_series(1, 3000)",
        );
        server.value("select pg_walfile_name(pg_switch_wal())")
    };
    (0..count).map(segment).collect()
}

/// `highwater-archive-cmd` for a file of the data directory's `pg_wal`, as PostgreSQL calls it.
pub fn archive(site: &Site, data: &Path, name: &str) -> Program {
    site.program("highwater-archive-cmd", [format!("pg_wal/{name}")]).in_folder(data)
}

/// `highwater-restore-cmd` in a folder, as PostgreSQL calls it in the data directory.
pub fn fetch(site: &Site, folder: &Path, name: &str, place: &str) -> Program {
    site.program("highwater-restore-cmd", [name, place]).in_folder(folder)
}

/// The process ids of what the two commands have started for this site and left running.
pub fn workers(site: &Site) -> Vec<u32> {
    workers_with(&site.config())
}

/// The same for a configuration.
pub fn workers_with(config: &Path) -> Vec<u32> {
    let is_one = |process: &u32| {
        let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&&b"--worker"[..]) && words.contains(&config.as_os_str().as_encoded_bytes())
    };
    let processes = fs::read_dir("/proc").unwrap();
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(is_one).collect()
}

/// Asserts that the repository gives back exactly this file.
#[track_caller]
pub fn assert_archived(site: &Site, data: &Path, name: &str) {
    let folder = Lab::empty(site, &format!("fetched-{name}"), data);
    fetch(site, &folder.0, name, "fetched").run().succeeds();
    let same = read(&folder.0.join("fetched")) == read(&data.join("pg_wal").join(name));
    assert!(same, "{name} is another file in the repository");
    fs::remove_dir_all(&folder.0).unwrap();
}

/// Asserts that the repository has no such file.
#[track_caller]
pub fn assert_not_archived(site: &Site, name: &str) {
    assert_eq!(site.objects(&format!("/{name}")), [""; 0].map(PathBuf::from));
}

/// Asserts that the archive command refused a file, and said what to do.
#[track_caller]
pub fn assert_refused(output: Output, status: i32) -> Output {
    let output = output.ends_with(status).fails_clearly().says("hint: ");
    assert_eq!(output.stderr.lines().count(), 1, "one line: {output}");
    output
}

pub fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A folder that looks like a cluster's data directory: it has the `pg_control`, and whatever a test puts there.
pub struct Lab(pub PathBuf);

impl Lab {
    /// With the `pg_control` of the data directory `like`, and an empty `pg_wal`.
    pub fn empty(site: &Site, name: &str, like: &Path) -> Lab {
        let lab = Lab(site.path(name));
        for folder in ["", "pg_wal", "global"] {
            let folder = lab.0.join(folder);
            fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            give_to_server_account(&folder);
        }
        lab.file("global/pg_control", &read(&like.join("global/pg_control")));
        lab
    }

    /// Writes a file.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        give_to_server_account(&path);
        path
    }

    /// `highwater-archive-cmd` for a file of its `pg_wal`, with this folder configured as the data directory.
    pub fn archive(&self, site: &Site, name: &str) -> Program {
        archive(site, &self.0, name).env("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY", &self.0)
    }

    /// The same with other content under that name.
    pub fn archive_content(&self, site: &Site, name: &str, content: &[u8]) -> Output {
        self.file(&format!("pg_wal/{name}"), content);
        self.archive(site, name).run()
    }
}

/// Five commits in five archived segments behind a copy of the cluster, and a restore point behind them. The cluster
/// is gone; all that is left are the copy and the archive.
pub struct LostCluster {
    pub site: Site,
    pub copy: PathBuf,
    pub segments: Vec<String>,
    copies: AtomicU32,
}

/// The restore point behind the five commits.
pub const RESTORE_POINT: &str = "five";

impl LostCluster {
    pub fn on(site: Site) -> LostCluster {
        let server = site.start_server(small_segments());
        server.sql("create table t (n int)");
        let copy = site.path("copy");
        server.copy_to(&copy);
        let commit = |n| {
            server.sql(&format!("insert into t values ({n})"));
            server.archive_now()
        };
        let segments = (1..=5).map(commit).collect();
        server.sql(&format!("select pg_create_restore_point('{RESTORE_POINT}')"));
        server.archive_now();
        server.stop(StopMode::Fast);
        LostCluster::behind(site, copy, segments)
    }

    /// A cluster of which a copy is left and these segments in the site's archive.
    pub fn behind(site: Site, copy: PathBuf, segments: Vec<String>) -> LostCluster {
        LostCluster { site, copy, segments, copies: AtomicU32::new(0) }
    }

    /// A fresh copy of the cluster, set up to recover from the archive. Not started.
    pub fn recovering(&self, signal: &str) -> Builder {
        self.recover(&self.fresh_copy(), signal)
    }

    /// The copy in `data`, set up to recover from the archive.
    pub fn recover(&self, data: &Path, signal: &str) -> Builder {
        Lab(data.to_owned()).file(signal, b"");
        Postgres::from_data_dir(data)
            .setting("archive_mode", "off")
            .setting("restore_command", &self.site.restore_command())
    }

    /// A fresh copy of the cluster as it was before the commits.
    pub fn fresh_copy(&self) -> PathBuf {
        let number = 1 + self.copies.fetch_add(1, Ordering::Relaxed);
        let data = self.site.path(&format!("copy-{number}"));
        Program::new("cp", [Path::new("-a"), &self.copy, &data]).run().succeeds();
        data
    }

    /// Where the object of the nth of the five segments lies, from 1.
    pub fn object(&self, n: usize) -> PathBuf {
        let objects = self.site.objects(&self.segments[n - 1]);
        objects.into_iter().next().unwrap_or_else(|| panic!("segment {n} is not in the repository"))
    }
}
