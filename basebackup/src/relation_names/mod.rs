//! Taking the names of all relations of a server, database by database, for the repository.
//!
//! Each object belongs to an LSN, and concurrent `CREATE`, `DROP` and `ALTER` must not make it tell a lie. What makes that hard is
//! that names are read with a snapshot per database, and a snapshot knows no LSN. So:
//!
//! - **The LSN is read first**, then the snapshots are taken, then the LSN is read again. Whatever was committed before the first is in
//!   every snapshot; whatever was committed after the second is in none. The object says both, and goes by the first.
//! - What was dropped between the two may be missing although it was there at the first: a reader looks into the object before,
//!   too. What was created between the two may be there already: it has a file number that nothing had before, so that it
//!   can be taken for nothing else.
//! - Had the second LSN been the name of the object, what was dropped before it would count as gone before it was, and what was
//!   renamed would count as renamed too early: mistakes that could not be told any more.
//! - File numbers come from the snapshot's rows of `pg_class`. Only mapped relations, some of PostgreSQL's own, have theirs in the
//!   relation map, which knows no snapshots (`pg_relation_filenode`): they change with `VACUUM FULL` of a catalog alone.
//! - On a primary a commit becomes visible a little after its record was written, and with synchronous replication as late as the
//!   standby's answer. Such a transaction counts as committed when it became visible. On a standby a snapshot holds everything
//!   that was replayed before it.
//! - Should the server be promoted meanwhile, or another one answer at the same address, everything is read again.
//!
//! A session in a database holds up `DROP DATABASE` and `CREATE DATABASE … TEMPLATE` of it, which wait for five seconds before
//! they give up: each lasts as long as reading takes, some milliseconds, and a few at a time are open.

mod database;
mod place;
mod text;

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use highwater_replication::Config;
use highwater_repository::{ClusterRepository, NamesHead, NamesId, NamesTaken, NamesWriter};

use crate::{Error, Result};
use place::Place;

/// So many databases are read side by side.
const DATABASES_AT_ONCE: usize = 4;
/// Reading begins anew so often when the server is promoted meanwhile.
const TRIES: u32 = 3;

/// What came of taking names.
#[derive(Clone, Debug)]
pub struct NamesReport {
    /// What was found.
    pub head: NamesHead,
    /// The object that holds it.
    pub id: NamesId,
    /// Whether it was put now; else an object of before holds the same.
    pub is_new: bool,
    /// Databases of which the relations could not be read, and why, in a clause.
    pub unreadable: Vec<(String, String)>,
    /// How long it took.
    pub duration: Duration,
}

/// The default limit for all of it.
pub const NAMES_LIMIT: Duration = Duration::from_secs(300);

/// Reads the names of all relations and puts them, unless the newest that were taken on this timeline are the same.
///
/// # Errors
/// Those of the server and of the repository; [`Error::Unfit`] where the server is another cluster's, and where `limit` has
/// passed. A database that cannot be read is no error: the report tells.
pub async fn take_names(
    connection: &Config,
    cluster: &ClusterRepository,
    limit: Duration,
) -> Result<NamesReport> {
    let taken = tokio::time::timeout(limit, async {
        let begun = Instant::now();
        let (names, unreadable) = read(connection, cluster).await?;
        let (id, is_new) = put(&names, cluster).await?;
        Ok(NamesReport { head: names.head().clone(), id, is_new, unreadable, duration: begun.elapsed() })
    });
    taken.await.unwrap_or_else(|_| {
        Err(Error::Unfit {
            reason: format!("reading the names of all relations took more than {} s", limit.as_secs()),
            hint: "see in pg_stat_activity what the sessions of this program wait for: somebody may hold a lock on pg_class",
        })
    })
}

async fn put(names: &NamesTaken, cluster: &ClusterRepository) -> Result<(NamesId, bool)> {
    let id = names.id();
    let there = cluster.list_names().await?;
    let on_timeline = there.into_iter().filter(|other| other.timeline == id.timeline && other.lsn <= id.lsn);
    let newest = on_timeline.max_by_key(|other| (other.lsn, other.taken_at));
    if let Some(same) = newest.filter(|newest| newest.tells_all_of(&id)) {
        return Ok((same, false));
    }
    cluster.put_names(names).await?;
    Ok((id, true))
}

async fn read(
    connection: &Config,
    cluster: &ClusterRepository,
) -> Result<(NamesTaken, Vec<(String, String)>)> {
    for _ in 0..TRIES {
        if let Some(read) = read_once(connection, cluster).await? {
            return Ok(read);
        }
    }
    Err(Error::Unfit {
        reason:
            "the server changed its timeline each time that names were read, or different servers answered"
                .to_owned(),
        hint: "name one server in the connection string, and try again when it has settled",
    })
}

/// `None` where the server was not the same, or not on the same timeline, at the end.
async fn read_once(
    connection: &Config,
    cluster: &ClusterRepository,
) -> Result<Option<(NamesTaken, Vec<(String, String)>)>> {
    let mut client = place::open(connection).await?;
    let before = Place::ask(&mut client, connection).await?;
    if before.system_id != cluster.system_id() {
        return Err(Error::Unfit {
            reason: format!(
                "the server belongs to system identifier {}, and cluster {} in the repository is {}",
                before.system_id,
                cluster.name(),
                cluster.system_id()
            ),
            hint: "look at the connection in the configuration, and at --system-id",
        });
    }
    let databases = database::list(&mut client).await?;
    let (shared, shared_relations) = database::shared(&mut client).await?;

    let mut writer = NamesWriter::new()?;
    let mut unreadable = Vec::new();
    writer.database(&shared)?;
    shared_relations.iter().try_for_each(|relation| writer.relation(relation))?;
    let mut reads = stream::iter(databases)
        .map(|database| database.read(connection, &before))
        .buffered(DATABASES_AT_ONCE);
    while let Some(read) = reads.next().await {
        let (database, relations) = read?;
        writer.database(&database)?;
        relations.iter().try_for_each(|relation| writer.relation(relation))?;
        unreadable.extend(database.unreadable.map(|reason| (database.name, reason)));
    }
    drop(reads);

    let after = Place::ask(&mut client, connection).await?;
    client.close().await;
    if !before.is_the_same_server(&after) {
        return Ok(None);
    }
    let names = writer.finish(before.time, before.timeline, before.lsn, after.lsn, before.is_standby)?;
    Ok(Some((names, unreadable)))
}
