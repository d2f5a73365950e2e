//! A server that is lived on: what it does by chance, and what is known of it.

use std::collections::BTreeMap;
use std::path::Path;

use highwater_tests::postgres::Builder;
use highwater_tests::{Clock, PATIENCE, Postgres, Program, Running, Session, Site, wait_until};

use super::history::Life;
use super::random::Random;
use super::wal::SEGMENT;

/// The tables that come and go.
pub const TABLES: [&str; 4] = ["orders", "customers", "items", "log"];
/// Most prepared transactions at a time.
const PREPARED_AT_MOST: usize = 6;
/// Most transactions that stay open at a time.
const OPEN_AT_MOST: usize = 3;

/// A prepared transaction.
#[derive(Debug, Clone)]
struct Prepared {
    name: String,
    table: Option<&'static str>,
}

/// What is known of what a server has done.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What the end of a transaction brings, if it is a commit.
    pub rows: BTreeMap<u32, Vec<i64>>,
    /// Who dropped or truncated which table, if it is committed.
    pub droppers: Vec<(String, u32)>,
    /// Every transaction number that was seen, of subtransactions too.
    pub xids: Vec<u32>,
    /// Names of restore points.
    pub points: Vec<String>,
    tables: Vec<&'static str>,
    prepared: Vec<Prepared>,
}

/// A server, on one timeline from its beginning or from a fork.
pub struct Branch<'a> {
    pub timeline: u32,
    pub server: Postgres,
    pub known: Known,
    site: &'a Site,
    clock: &'a Clock,
    copies: &'a Path,
    session: Session,
    open: Vec<(Session, u32, Vec<i64>)>,
    /// Numbers for rows, prepared transactions, restore points: none comes twice, on any branch.
    counter: i64,
    offset: i64,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Commit,
    RollBack,
    Subtransactions,
    Prepare,
    FinishPrepared,
    Open,
    Close,
    RestorePoint,
    Clock,
    StandStill,
    Idle,
    SwitchSegment,
    Checkpoint,
    Fill,
    CommitOverTheEdge,
    Table,
    PreparedDrop,
}

const DEEDS: [(u64, Deed); 17] = [
    (10, Deed::Commit),
    (3, Deed::RollBack),
    (6, Deed::Subtransactions),
    (4, Deed::Prepare),
    (3, Deed::FinishPrepared),
    (3, Deed::Open),
    (3, Deed::Close),
    (3, Deed::RestorePoint),
    (5, Deed::Clock),
    (1, Deed::StandStill),
    (1, Deed::Idle),
    (2, Deed::SwitchSegment),
    (1, Deed::Checkpoint),
    (3, Deed::Fill),
    (3, Deed::CommitOverTheEdge),
    (6, Deed::Table),
    (1, Deed::PreparedDrop),
];

impl<'a> Branch<'a> {
    pub fn new(life: &Life<'a>, timeline: u32, server: Postgres, known: Known) -> Self {
        let Life { site, clock, copies, .. } = *life;
        let session = server.session();
        let counter = i64::from(timeline) * 100_000;
        Self { timeline, server, known, site, clock, copies, session, open: Vec::new(), counter, offset: 0 }
    }

    /// Does as many things by chance.
    pub fn live(&mut self, random: &mut Random, deeds: u32) {
        for _ in 0..deeds {
            self.act(random);
        }
    }

    /// A backup that has begun.
    pub fn back_up(&self, label: &str) -> Running {
        self.highwater(["backup", "--quiet", "--label", label]).start()
    }

    /// `highwater` with this server's place instead of the configuration's.
    fn highwater<const N: usize>(&self, arguments: [&str; N]) -> Program {
        self.site
            .highwater(arguments)
            .env("HIGHWATER_CLUSTER_MAIN_CONNECTION", self.server.connection_string())
            .env("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY", self.server.data_dir())
    }

    /// What a table that was truncated is called now: its file is a new one, and not always does the WAL alone tell whose.
    fn take_names(&self) {
        self.highwater(["names", "--quiet"]).run().succeeds();
    }

    /// Where the next record is to lie. What goes on in open transactions is not in the archive's future from here.
    pub fn position(&mut self) -> String {
        self.one("select pg_current_wal_insert_lsn()")
    }

    /// A last commit, and everything archived.
    pub fn end(&mut self, random: &mut Random) -> Known {
        self.step_clock(random.between(-3600, 3600));
        self.commit(random);
        self.archive_now();
        std::mem::take(&mut self.known)
    }

    /// Closes the segment, and waits until it is archived. What the server's statistics tell of that cannot be relied on under such a
    /// clock: up to PostgreSQL 14 old ones pass for new.
    pub fn archive_now(&mut self) {
        self.fill(100);
        let segment = self.one("select pg_walfile_name(pg_switch_wal())");
        let ready = self.server.data_dir().join(format!("pg_wal/archive_status/{segment}.ready"));
        let copy = self.copies.join(&segment);
        wait_until("the segment is archived", PATIENCE, || copy.exists() && !ready.exists());
    }

    fn act(&mut self, random: &mut Random) {
        match random.weighted(&DEEDS) {
            Deed::Commit => self.commit(random),
            Deed::RollBack => self.roll_back(),
            Deed::Subtransactions => self.subtransactions(random),
            Deed::Prepare => self.prepare(None),
            Deed::FinishPrepared => self.finish_prepared(random),
            Deed::Open => self.open(),
            Deed::Close => self.close(random),
            Deed::RestorePoint => self.restore_point(random),
            Deed::Clock => self.move_clock(random),
            Deed::StandStill => self.stand_still(random),
            Deed::Idle => self.idle(),
            Deed::SwitchSegment => self.run("select pg_switch_wal()"),
            Deed::Checkpoint => self.run("checkpoint"),
            Deed::Fill => self.fill(random.below(400_000)),
            Deed::CommitOverTheEdge => self.commit_over_the_edge(random),
            Deed::Table => self.table(random),
            Deed::PreparedDrop => {
                let free = self.free_tables();
                if let Some(table) = random.pick(&free) {
                    self.prepare(Some(*table));
                }
            }
        }
    }

    fn run(&mut self, sql: &str) {
        self.session.rows(sql);
    }

    /// The first value that a text of statements answers.
    fn one(&mut self, sql: &str) -> String {
        let rows = self.session.rows(sql);
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        value.unwrap_or_else(|| panic!("{sql}: no value"))
    }

    fn number(&mut self) -> i64 {
        self.counter += 1;
        self.counter
    }

    fn saw(&mut self, xid: &str) -> u32 {
        let xid = xid.parse().expect("a transaction's number");
        self.known.xids.push(xid);
        xid
    }

    /// A statement that adds a row, and answers the number of the (sub)transaction that did.
    fn insert(number: i64) -> String {
        format!("insert into marks values ({number}) returning xmin")
    }

    fn commit(&mut self, random: &mut Random) {
        let numbers: Vec<i64> = (0..=random.below(3)).map(|_| self.number()).collect();
        let inserts: Vec<String> = numbers.iter().map(|number| Self::insert(*number)).collect();
        let xid = self.one(&inserts.join(";"));
        let xid = self.saw(&xid);
        self.known.rows.insert(xid, numbers);
    }

    fn roll_back(&mut self) {
        let number = self.number();
        let xid = self.one(&format!("begin; {}; rollback", Self::insert(number)));
        self.saw(&xid);
    }

    fn subtransactions(&mut self, random: &mut Random) {
        let (top, kept, lost, inner) = (self.number(), self.number(), self.number(), self.number());
        let sql = format!(
            "begin; {}; savepoint a; {}; savepoint b; {}; rollback to b; release a; savepoint c; {}; release c;",
            Self::insert(top),
            Self::insert(kept),
            Self::insert(lost),
            Self::insert(inner)
        );
        let committed = !random.one_in(4);
        let end = if committed { "commit" } else { "rollback" };
        let xids: Vec<String> =
            self.session.rows(&format!("{sql} {end}")).into_iter().flatten().flatten().collect();
        let xids: Vec<u32> = xids.iter().map(|xid| self.saw(xid)).collect();
        if committed {
            self.known.rows.insert(xids[0], vec![top, kept, inner]);
        }
    }

    fn prepare(&mut self, table: Option<&'static str>) {
        if self.known.prepared.len() >= PREPARED_AT_MOST {
            return;
        }
        let (outer, inner) = (self.number(), self.number());
        let name = format!("prepared-{outer}");
        let drop = table.map_or_else(String::new, |table| format!("drop table {table};"));
        let sql = format!(
            "begin; {}; savepoint a; {}; {drop} prepare transaction '{name}'",
            Self::insert(outer),
            Self::insert(inner)
        );
        let xid = self.one(&sql);
        let xid = self.saw(&xid);
        self.known.rows.insert(xid, vec![outer, inner]);
        if let Some(table) = table {
            self.known.droppers.push((table.to_owned(), xid));
        }
        self.known.prepared.push(Prepared { name, table });
    }

    fn finish_prepared(&mut self, random: &mut Random) {
        if self.known.prepared.is_empty() {
            return;
        }
        let index = random.below(self.known.prepared.len() as u64) as usize;
        let Prepared { name, table } = self.known.prepared.remove(index);
        if random.one_in(3) {
            self.run(&format!("rollback prepared '{name}'"));
            return;
        }
        self.run(&format!("commit prepared '{name}'"));
        self.known.tables.retain(|known| Some(*known) != table);
    }

    /// A transaction that goes on while others come and go.
    fn open(&mut self) {
        if self.open.len() >= OPEN_AT_MOST {
            return;
        }
        let number = self.number();
        let mut session = self.server.session();
        let rows = session.rows(&format!("begin; {}", Self::insert(number)));
        let xid = self.saw(rows[0][0].as_deref().expect("a number"));
        self.open.push((session, xid, vec![number]));
    }

    fn close(&mut self, random: &mut Random) {
        if self.open.is_empty() {
            return;
        }
        let (mut session, xid, numbers) = self.open.remove(random.below(self.open.len() as u64) as usize);
        if random.one_in(4) {
            session.rows("rollback");
        } else {
            session.rows("commit");
            self.known.rows.insert(xid, numbers);
        }
    }

    /// Some names come twice.
    fn restore_point(&mut self, random: &mut Random) {
        let again = self.known.points.last().filter(|_| random.one_in(6)).cloned();
        let name = again.unwrap_or_else(|| format!("point-{}", self.number()));
        self.run(&format!("select pg_create_restore_point('{name}')"));
        self.known.points.push(name);
    }

    fn step_clock(&mut self, offset: i64) {
        self.offset = offset;
        self.clock.off_by(offset);
    }

    /// It goes forward or back, by seconds or by hours.
    fn move_clock(&mut self, random: &mut Random) {
        let offset = match random.one_in(3) {
            true => random.between(-7200, 7200),
            false => self.offset + random.between(-4, 4),
        };
        self.step_clock(offset);
    }

    /// Several commits at one and the same time.
    fn stand_still(&mut self, random: &mut Random) {
        let now = self.one("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')");
        self.clock.stand_still_at(&now);
        for _ in 0..3 {
            self.commit(random);
        }
        self.roll_back();
        self.step_clock(self.offset);
    }

    /// An hour in which nothing is committed, though there is WAL.
    fn idle(&mut self) {
        self.step_clock(self.offset + 1800);
        self.run("checkpoint");
        self.run("select pg_switch_wal()");
        self.fill(100);
        self.run("select pg_switch_wal()");
        self.step_clock(self.offset + 1800);
    }

    /// WAL of no transaction.
    fn fill(&mut self, bytes: u64) {
        self.run(&format!("select pg_logical_emit_message(false, 'fill', repeat('x', {bytes}))"));
    }

    /// Its end may well lie over the end of a segment.
    fn commit_over_the_edge(&mut self, random: &mut Random) {
        let left = format!("select {SEGMENT} - (pg_current_wal_insert_lsn() - '0/0') % {SEGMENT}");
        let left: u64 = self.one(&left).parse().expect("a number");
        // An insert, with and without an image of its page, and a commit.
        let needed = random.below(500) + 60;
        if left > needed + 2000 {
            self.fill(left - needed - left / 8192 * 24 - 60);
        }
        self.commit(random);
    }

    /// Tables that no prepared transaction has its hands on.
    fn free_tables(&self) -> Vec<&'static str> {
        let is_locked = |table: &str| self.known.prepared.iter().any(|by| by.table == Some(table));
        self.known.tables.iter().copied().filter(|table| !is_locked(table)).collect()
    }

    /// Makes a table, drops or truncates one, or does so in vain.
    fn table(&mut self, random: &mut Random) {
        let free = self.free_tables();
        let missing: Vec<&'static str> =
            TABLES.into_iter().filter(|table| !self.known.tables.contains(table)).collect();
        if let Some(table) = random.pick(&missing).filter(|_| free.is_empty() || random.one_in(2)) {
            let number = self.number();
            let sql = format!(
                "begin; {}; create table {table} (n int); insert into {table} values (1); commit",
                Self::insert(number)
            );
            let xid = self.one(&sql);
            let xid = self.saw(&xid);
            self.known.rows.insert(xid, vec![number]);
            self.known.tables.push(table);
            return;
        }
        let Some(table) = random.pick(&free).copied() else { return };
        let number = self.number();
        let verb = if random.one_in(2) { "truncate" } else { "drop table" };
        let (before, after) = match random.below(4) {
            0 => ("savepoint a;", "rollback to a;"),
            1 => ("savepoint a;", "release a;"),
            _ => ("", ""),
        };
        let undone = after.starts_with("rollback");
        let rows =
            self.one(&format!("begin; {}; {before} {verb} {table}; {after} commit", Self::insert(number)));
        let xid = self.saw(&rows);
        self.known.rows.insert(xid, vec![number]);
        if !undone {
            self.known.droppers.push((table.to_owned(), xid));
            if verb == "drop table" {
                self.known.tables.retain(|known| *known != table);
            } else {
                self.run(&format!("insert into {table} values (2)"));
                self.take_names();
            }
        }
    }
}

/// A server's settings under a clock that is moved: nothing that goes on by itself, or gives up on somebody because of the time.
pub fn settings(builder: Builder, clock: &Clock) -> Builder {
    let settings = [
        ("autovacuum", "off"),
        ("wal_sender_timeout", "0"),
        ("wal_receiver_timeout", "0"),
        ("checkpoint_timeout", "1d"),
    ];
    settings.into_iter().fold(builder.clock(clock), |builder, (name, value)| builder.setting(name, value))
}

/// An `archive_command` that keeps a copy of its own. `data` is the server's folder.
pub fn archive_command(site: &Site, copies: &Path, data: &Path) -> String {
    format!(
        "cp %p {}/%f && HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={} {}",
        copies.display(),
        data.display(),
        site.archive_command()
    )
}
