//! A load that knows what it has committed, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::postgres::{Postgres, Session};
use crate::wait::{PATIENCE, wait_until};

/// Most rows that one transaction inserts.
const ROWS_AT_MOST: u64 = 20;
/// One transaction in so many is rolled back.
const ROLLED_BACK_EVERY: u64 = 7;
/// One transaction in so many uses a savepoint that it rolls back to.
const SAVEPOINT_EVERY: u64 = 5;

/// One connection that commits without a pause, until it is stopped. Each transaction adds rows to `load_rows` and
/// updates the one row of `load_total`, so that a database that holds half a transaction shows it. With one writer
/// the order of the commits' times is their order in the WAL.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Load {
    /// Makes the tables, if they are not there, and starts to write. The server must have
    /// `track_commit_timestamp` on, as the harness's servers do.
    pub fn start(server: &Postgres) -> Self {
        Self::start_with_pause(server, Duration::ZERO)
    }

    /// The same with a pause after each transaction, for a load that lasts without filling the disk.
    pub fn start_with_pause(server: &Postgres, pause: Duration) -> Self {
        server.sql(
            "create table if not exists load_rows (id bigint primary key, batch bigint not null, content text not null);
             create table if not exists load_total as select 0::bigint as rows, 0::numeric as ids;",
        );
        let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = {
            let (stop, commits, session) = (Arc::clone(&stop), Arc::clone(&commits), server.session());
            thread::spawn(move || write(session, &stop, &commits, pause))
        };
        Self { stop, commits, writer: Some(writer) }
    }

    /// How many transactions it has committed so far.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Waits until it has committed `count` more transactions.
    pub fn wait_for_commits(&self, count: u64) {
        let goal = self.commits() + count;
        wait_until(&format!("the load has committed {count} transactions"), PATIENCE, || {
            self.commits() >= goal
        });
    }

    /// Stops writing. It has stopped already when its server was killed or stopped under it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(writer) = self.writer.take() {
            writer.join().expect("the load's thread did not panic");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn write(mut session: Session, stop: &AtomicBool, commits: &AtomicU64, pause: Duration) {
    let last = session.rows("select coalesce(max(id), 0), coalesce(max(batch), 0) from load_rows");
    let number =
        |column: usize| last[0][column].as_deref().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (mut id, mut batch) = (number(0), number(1));
    while !stop.load(Ordering::SeqCst) {
        batch += 1;
        let count = 1 + batch * 7919 % ROWS_AT_MOST;
        let keep = !batch.is_multiple_of(ROLLED_BACK_EVERY);
        // A server that is killed or stopped under the load ends it: which of its last transaction's halves
        // happened is for the journey to find out.
        if session.try_rows(&transaction(id, batch, count, keep)).is_err() {
            return;
        }
        id += count;
        commits.fetch_add(u64::from(keep), Ordering::SeqCst);
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
}

fn transaction(id: u64, batch: u64, count: u64, keep: bool) -> String {
    let (first, last) = (id + 1, id + count);
    let detour = if batch.is_multiple_of(SAVEPOINT_EVERY) {
        "savepoint detour; delete from load_rows where id % 100 = 1; rollback to detour;"
    } else {
        ""
    };
    let end = if keep { "commit" } else { "rollback" };
    format!(
        "begin; {detour} \
         insert into load_rows select i, {batch}, {CONTENT} from generate_series({first}, {last}) i; \
         update load_total set rows = rows + {count}, ids = ids + (select sum(i) from generate_series({first}, {last}) i); \
         {end}"
    )
}

/// A row's content follows from its id `i`, of changing length, and compresses as badly as real data.
const CONTENT: &str = "repeat(md5(i::text), 1 + (i % 8)::int)";

/// What a load had committed, row by row with the time of the commit, in the order of the commits. Taken from the
/// source before it is lost.
#[derive(Debug)]
pub struct History {
    rows: Vec<(u64, String)>,
}

impl History {
    /// Reads the history from the server that the load wrote to.
    pub fn of(server: &Postgres) -> Self {
        let rows = server.rows(
            "select id, to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'
             from load_rows order by id",
        );
        let text = |column: &Option<String>| column.clone().expect("track_commit_timestamp is on");
        let row =
            |row: Vec<Option<String>>| (text(&row[0]).parse().expect("an id is a number"), text(&row[1]));
        Self { rows: rows.into_iter().map(row).collect() }
    }

    /// The time of the first commit and of the last, as `2026-11-20 12:00:00.123456+00`.
    pub fn span(&self) -> (&str, &str) {
        let (first, last) = (self.rows.first(), self.rows.last());
        (&first.expect("the load has committed").1, &last.expect("the load has committed").1)
    }

    /// The times of all commits, each once, in order.
    pub fn commit_times(&self) -> Vec<&str> {
        let mut times: Vec<&str> = self.rows.iter().map(|(_, time)| time.as_str()).collect();
        times.dedup();
        times
    }

    /// How many rows had been committed at `time` (of [`History::span`]'s form), that moment included.
    pub fn count_at(&self, time: &str) -> usize {
        self.rows.iter().take_while(|(_, committed)| committed.as_str() <= time).count()
    }

    /// Asserts that `server` holds exactly what had been committed at `time`, row by row.
    pub fn assert_holds(&self, server: &Postgres, time: &str) {
        let expected: Vec<u64> = self.rows[..self.count_at(time)].iter().map(|(id, _)| *id).collect();
        assert_rows(server, &expected, &format!("at {time}"));
    }

    /// Asserts that `server` holds everything.
    pub fn assert_holds_all(&self, server: &Postgres) {
        let expected: Vec<u64> = self.rows.iter().map(|(id, _)| *id).collect();
        assert_rows(server, &expected, "at the end");
    }
}

fn assert_rows(server: &Postgres, expected: &[u64], when: &str) {
    let found: Vec<u64> = server
        .column("select id from load_rows order by id")
        .iter()
        .map(|id| id.parse().expect("an id is a number"))
        .collect();
    if found != expected {
        let missing: Vec<_> =
            expected.iter().filter(|id| found.binary_search(id).is_err()).take(10).collect();
        let extra: Vec<_> = found.iter().filter(|id| expected.binary_search(id).is_err()).take(10).collect();
        let (count, wanted) = (found.len(), expected.len());
        panic!("{when}: {count} rows instead of {wanted}; missing {missing:?}, too many {extra:?}");
    }
    assert_load_is_whole(server);
}

/// Asserts that no transaction of a load is there by half and that every row has the content that it was given.
pub fn assert_load_is_whole(server: &Postgres) {
    let wrong =
        format!("select count(*) from load_rows, lateral (select id as i) x where content <> {CONTENT}");
    assert_eq!(server.value(&wrong), "0", "rows with other content");
    let whole = "select t.rows = count(r.id) and t.ids = coalesce(sum(r.id), 0) from load_total t
                 left join load_rows r on true group by t.rows, t.ids";
    assert_eq!(server.column(whole), ["t"], "load_total does not agree with load_rows");
}
