//! A cluster's life: one server, a second that is taken over at a point of the first one's past, a third that is promoted beside
//! the second. All three go on.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::{CLUSTER, Clock, PATIENCE, Postgres, Program, Site, client_program};
use highwater_wal::Timestamp;
use serde_json::Value;

use super::branch::{Branch, Known, archive_command, settings};
use super::model::{Backup, Model};
use super::random::Random;
use super::wal::{self, SEGMENT, Wal, What};
use crate::restores::restore;

/// What is left of it: the archive, the servers' own copy of it, and what they had done.
pub struct History {
    pub site: Site,
    pub model: Model,
    version: u32,
    known: Vec<(u32, Known)>,
}

impl History {
    pub fn live(version: u32, random: &mut Random) -> History {
        let site = Site::on_folder();
        // Behind the servers, whose clock it is.
        let clock = Clock::new();
        let copies = site.path("copies");
        fs::create_dir(&copies).expect("a folder can be made");
        highwater_tests::give_to_server_account(&copies);
        let known = Life { site: &site, clock: &clock, copies: &copies, version }.live(random);
        let model = model(&site, &copies, version, &known);
        if matches!(version, 15 | 18) {
            assert_reads_as_pg_waldump(&copies, version, &model);
        }
        History { site, model, version, known }
    }

    pub fn known(&self, timeline: u32) -> &Known {
        &self.known.iter().find(|(of, _)| *of == timeline).expect("the timeline is known").1
    }

    /// For the message of a failure.
    pub fn describe(&self) -> String {
        let mut text = format!("PostgreSQL {}\n", self.version);
        for (timeline, wal) in &self.model.paths {
            let legs: Vec<String> =
                wal.legs.iter().map(|(of, begin)| format!("{of} from {}", wal::show(*begin))).collect();
            text += &format!("timeline {timeline}: {}, up to {}\n", legs.join(", "), wal::show(wal.end));
            for record in wal.records.iter().filter(|record| record.what != What::Other) {
                let time = match record.what {
                    What::End { time, .. } => Timestamp(time).to_string(),
                    _ => String::new(),
                };
                text += &format!("  {} {:?} {time}\n", wal::show(record.lsn), record.what);
            }
        }
        text + &format!("{:#?}\n{:?}", self.model.backups, self.model.droppers)
    }
}

/// Where it takes place.
pub struct Life<'a> {
    pub site: &'a Site,
    pub clock: &'a Clock,
    pub copies: &'a Path,
    version: u32,
}

impl<'a> Life<'a> {
    fn live(&self, random: &mut Random) -> Vec<(u32, Known)> {
        let mut first = self.first();
        first.back_up("first").wait().succeeds();
        first.live(random, 25);
        self.with_backup(&mut first, "second", random, 8);
        first.live(random, 15);
        let (position, past) = (first.position(), first.known.clone());
        first.live(random, 15);
        first.archive_now();

        let mut second = self.taken_over(&position, past);
        self.with_backup(&mut first, "third", random, 6);
        first.live(random, 15);
        second.live(random, 15);
        self.with_backup(&mut second, "fourth", random, 6);
        second.live(random, 10);
        let mut third = self.promoted(&second);
        second.live(random, 12);
        third.live(random, 15);
        self.with_backup(&mut third, "fifth", random, 6);
        third.live(random, 20);
        first.live(random, 5);
        // None goes before all have ended: the third lives in a folder of the second's.
        let mut branches = [first, second, third];
        branches.each_mut().map(|branch| (branch.timeline, branch.end(random))).to_vec()
    }

    /// Lives on while a backup is being taken.
    fn with_backup(&self, branch: &mut Branch<'a>, label: &str, random: &mut Random, deeds: u32) {
        let backup = branch.back_up(label);
        branch.live(random, deeds);
        backup.wait().succeeds();
    }

    fn first(&self) -> Branch<'a> {
        let builder = Postgres::builder().version(self.version).wal_segment_size_mb(1);
        let server = settings(builder, self.clock).setting("archive_mode", "on").start();
        self.site.add_cluster(CLUSTER, &server);
        self.site.highwater(["init"]).run().succeeds();
        server.configure("archive_command", &archive_command(self.site, self.copies, server.data_dir()));
        server.sql("create table marks (n bigint)");
        Branch::new(self, 1, server, Known::default())
    }

    /// The cluster as it was at a position, which lives on as another one.
    fn taken_over(&self, position: &str, past: Known) -> Branch<'a> {
        let arguments = ["--takeover", "--lsn", position, "--exclusive"];
        let (folder, output) = restore(self.site, "second", &arguments);
        output.succeeds();
        let command = archive_command(self.site, self.copies, &folder);
        let server = Postgres::from_data_dir(&folder).clock(self.clock).setting("archive_command", &command);
        let server = server.try_recover().unwrap_or_else(|failure| panic!("{failure}"));
        // What was the target would keep a standby on the old timeline.
        for setting in ["lsn", "inclusive", "action", "timeline"] {
            server.sql(&format!("alter system reset recovery_target_{setting}"));
        }
        Branch::new(self, 2, server, past)
    }

    /// A standby that has all that its primary has, and is promoted.
    fn promoted(&self, primary: &Branch<'a>) -> Branch<'a> {
        let standby = primary.server.standby("third");
        let data = primary.server.folder().join("standby-third");
        let command = archive_command(self.site, self.copies, &data);
        let server = standby.clock(self.clock).setting("archive_command", &command).start();
        let written = primary.server.value("select pg_current_wal_flush_lsn()");
        server.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), PATIENCE);
        server.promote();
        Branch::new(self, 3, server, primary.known.clone())
    }
}

fn model(site: &Site, copies: &Path, version: u32, known: &[(u32, Known)]) -> Model {
    let list = site.highwater(["list", "--json"]).run().succeeds().json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let time = |value: &Value| text(value).parse::<Timestamp>().expect("a time").0;
    let backup = |backup: &Value| Backup {
        label: text(&backup["label"]),
        timeline: backup["timeline"].as_u64().expect("a number") as u32,
        start: wal::lsn(&text(&backup["start"])),
        stop: wal::lsn(&text(&backup["stop"])),
        stop_time: time(&backup["stop_time"]),
    };
    let mut backups: Vec<Backup> = list["backups"].as_array().expect("a list").iter().map(backup).collect();
    assert_eq!(backups.len(), 5);
    backups.sort_by_key(|backup| backup.stop);
    let windows = site.highwater(["window", "--json"]).run().succeeds().json();
    let covered = windows.as_array().expect("a list").iter().map(|branch| {
        let windows = branch["windows"].as_array().expect("a list");
        assert_eq!(windows.len(), 1, "there is no hole: {branch}");
        (branch["timeline"].as_u64().expect("a number") as u32, time(&windows[0]["until_time"]))
    });
    let covered = covered.collect();
    let paths = known.iter().map(|(timeline, _)| (*timeline, Wal::read(copies, *timeline, version)));
    let droppers = known.iter().map(|(timeline, known)| (*timeline, known.droppers.clone()));
    Model { paths: paths.collect(), backups, droppers: droppers.collect(), covered }
}

/// The records that this journey reads are those that PostgreSQL's own program shows.
fn assert_reads_as_pg_waldump(copies: &Path, version: u32, model: &Model) {
    for (timeline, wal) in &model.paths {
        let (_, begin) = wal.legs[wal.legs.len() - 1];
        let begin = match begin {
            0 => wal.records[0].lsn,
            fork => fork,
        };
        let program: PathBuf = client_program(version, "pg_waldump");
        let from = begin / SEGMENT * SEGMENT;
        let (timeline, from, end) = (timeline.to_string(), wal::show(from), wal::show(wal.end));
        let arguments = ["-t", &timeline, "-s", &from, "-e", &end, "-p"];
        let output = Program::new(program, arguments).args([copies]).env("TZ", "UTC").run();
        let shown: Vec<(u64, String)> = output.stdout.lines().map(shown).collect();
        let shown = shown.into_iter().filter(|(lsn, _)| *lsn >= begin);
        let read = wal.records[wal.before(begin)..].iter().map(|record| (record.lsn, as_shown(record)));
        let (shown, read): (Vec<_>, Vec<_>) = (shown.collect(), read.collect());
        let other = shown.iter().zip(&read).find(|(shown, read)| shown != read);
        assert_eq!(other, None);
        assert_eq!(shown.len(), read.len(), "{}", output.stderr);
    }
}

/// A line of `pg_waldump`: where the record lies, and what counts of the rest.
fn shown(line: &str) -> (u64, String) {
    let behind =
        |name: &str| line.split_once(name).map(|(_, rest)| rest.trim_start()).expect("a line's part");
    let word = |text: &str| text.split([',', ' ']).next().expect("a word").to_owned();
    let lsn = wal::lsn(&word(behind("lsn:")));
    let (manager, xid, desc) = (word(behind("rmgr:")), word(behind("tx:")), behind("desc:"));
    let of_desc = |count: usize| desc.split_whitespace().take(count).collect::<Vec<_>>().join(" ");
    let text = match word(desc).as_str() {
        "COMMIT" | "ABORT" if manager == "Transaction" => format!("{} xid {xid}", of_desc(3)),
        "COMMIT_PREPARED" | "ABORT_PREPARED" => {
            let finished: Vec<&str> = desc.split_whitespace().take(4).collect();
            let verb = finished[0].trim_end_matches("_PREPARED");
            format!("{verb} {} {} xid {}", finished[2], finished[3], finished[1].trim_end_matches(':'))
        }
        "PREPARE" if manager == "Transaction" => format!("PREPARE xid {xid}"),
        "RESTORE_POINT" => {
            format!("POINT {}", word(desc.trim_start_matches("RESTORE_POINT ").trim_end_matches(';')))
        }
        _ => String::new(),
    };
    (lsn, text)
}

fn as_shown(record: &wal::Record) -> String {
    match &record.what {
        What::End { xid, time, committed } => {
            let verb = if *committed { "COMMIT" } else { "ABORT" };
            let time = Timestamp(*time).to_string().replace('T', " ").replace('Z', "");
            format!("{verb} {time} xid {xid}")
        }
        What::Prepared { xid } => format!("PREPARE xid {xid}"),
        What::Point { name } => format!("POINT {name}"),
        What::Other => String::new(),
    }
}
