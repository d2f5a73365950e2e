//! The relations of one database.

use std::time::Duration;

use highwater_replication::{Client, Config, DataRow, Error as ServerError};
use highwater_repository::{DatabaseNames, MAX_RELATIONS, RelationName};

use super::place::{self, Place, SAME_SERVER};
use super::text::readable;
use crate::{Error, Result};

/// Rows that are asked for at a time.
const ROWS_AT_ONCE: usize = 5_000;
/// A standby cancels a query that is in the way of what it replays: tries, and the pause before the next.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// OID of the tablespace of what all databases share (`GLOBALTABLESPACE_OID`).
const GLOBAL_TABLESPACE: u32 = 1664;

/// A database in `pg_database`.
#[derive(Clone, Debug)]
pub(super) struct Database {
    oid: u32,
    name: Vec<u8>,
    tablespace: u32,
    /// Why one cannot even try to read it.
    closed: Option<&'static str>,
}

const DATABASES: &str = "\
SELECT oid, datname, dattablespace, datallowconn, has_database_privilege(oid, 'CONNECT') \
FROM pg_database ORDER BY oid";

/// All databases, in the order of their OIDs.
pub(super) async fn list(client: &mut Client) -> Result<Vec<Database>> {
    let rows = client.query(DATABASES).await?;
    let is_true = |row: &DataRow, column| Ok::<_, ServerError>(row.text(column)? == Some("t"));
    let database = |row: &DataRow| {
        Ok(Database {
            oid: row.parse(0)?,
            name: row.bytes(1)?.map(|name| name.to_vec()).unwrap_or_default(),
            tablespace: row.parse(2)?,
            closed: match (is_true(row, 3)?, is_true(row, 4)?) {
                (true, true) => None,
                (false, _) => Some("it takes no connections (datallowconn is off)"),
                (true, false) => Some("this role has no right to connect to it"),
            },
        })
    };
    rows.rows.iter().map(database).collect()
}

/// Everything about relations in one query. A TOAST table and an index tell their table; an index of a TOAST table the table behind that.
/// `relfilenode` is 0 for mapped relations, and for those without a file.
fn relations_query(which: &str) -> String {
    format!(
        "SELECT c.oid, \
                CASE WHEN c.relkind = 'p' THEN 0 WHEN c.relfilenode <> 0 THEN c.relfilenode \
                     ELSE coalesce(pg_relation_filenode(c.oid), 0) END, \
                c.reltablespace, n.nspname, c.relname, c.relkind, c.relpersistence, \
                coalesce(o.oid, i.indrelid), h.inhparent \
         FROM pg_class c \
              JOIN pg_namespace n ON n.oid = c.relnamespace \
              LEFT JOIN pg_index i ON i.indexrelid = c.oid \
              LEFT JOIN pg_class o ON o.reltoastrelid <> 0 \
                    AND o.reltoastrelid = CASE c.relkind WHEN 't' THEN c.oid WHEN 'i' THEN i.indrelid END \
              LEFT JOIN pg_inherits h ON h.inhrelid = c.oid AND c.relispartition AND c.relkind IN ('r', 'p') \
         WHERE c.relkind IN ('r', 'i', 'S', 't', 'm', 'p') AND c.relpersistence <> 't' AND {which} \
         ORDER BY c.oid"
    )
}

/// What all databases share, as any of them tells it.
pub(super) async fn shared(client: &mut Client) -> Result<(DatabaseNames, Vec<RelationName>)> {
    let all = DatabaseNames { oid: 0, name: String::new(), tablespace: GLOBAL_TABLESPACE, unreadable: None };
    let relations = relations(client, "c.relisshared", GLOBAL_TABLESPACE).await?;
    Ok((all, relations))
}

impl Database {
    /// Its relations, or why they cannot be read.
    ///
    /// # Errors
    /// Where the server as a whole fails: that is no trait of this database.
    pub(super) async fn read(
        self,
        connection: &Config,
        server: &Place,
    ) -> Result<(DatabaseNames, Vec<RelationName>)> {
        let told = |unreadable: Option<String>| DatabaseNames {
            oid: self.oid,
            name: readable(&self.name),
            tablespace: self.tablespace,
            unreadable,
        };
        if let Some(reason) = self.closed {
            return Ok((told(Some(reason.to_owned())), Vec::new()));
        }
        let Ok(name) = String::from_utf8(self.name.clone()) else {
            let reason = "its name is not UTF-8, so that one cannot connect to it".to_owned();
            return Ok((told(Some(reason)), Vec::new()));
        };
        let connection = Config { database: name, ..connection.clone() };
        let mut attempt = 1;
        loop {
            match read(&connection, server, self.tablespace).await {
                Ok(relations) => return Ok((told(None), relations)),
                Err(error) => match of_database(&error) {
                    Fault::Passing if attempt < TRIES => tokio::time::sleep(PAUSE * attempt).await,
                    Fault::Passing | Fault::Lasting => return Ok((told(Some(reason(&error))), Vec::new())),
                    Fault::OfServer => return Err(error),
                },
            }
            attempt += 1;
        }
    }
}

async fn read(connection: &Config, server: &Place, tablespace: u32) -> Result<Vec<RelationName>> {
    let mut client = place::open(connection).await?;
    let rows = client.query(SAME_SERVER).await?;
    let row = rows.single()?;
    if row.parse::<i64>(0)?.cast_unsigned() != server.system_id.0 || row.text(1)? != Some(&server.started) {
        return Err(Error::Unfit {
            reason: "two connections lead to different servers".to_owned(),
            hint: "name one server in the connection string, or set target_session_attrs",
        });
    }
    let found = match relations(&mut client, "NOT c.relisshared", tablespace).await {
        // A name that has no counterpart in UTF-8, or is no text in the database's own encoding: then the bytes as they are.
        Err(Error::Server(error)) if matches!(error.sqlstate(), Some("22021" | "22P05")) => {
            client.query("ROLLBACK").await?;
            client.query("SELECT set_config('client_encoding', 'SQL_ASCII', false)").await?;
            relations(&mut client, "NOT c.relisshared", tablespace).await
        }
        other => other,
    };
    client.close().await;
    found
}

/// The relations, all by one snapshot.
async fn relations(client: &mut Client, which: &str, tablespace: u32) -> Result<Vec<RelationName>> {
    client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let query = relations_query(which);
    client.query(&format!("DECLARE names NO SCROLL CURSOR FOR {query}")).await?;
    let mut found = Vec::new();
    loop {
        let rows = client.query(&format!("FETCH {ROWS_AT_ONCE} FROM names")).await?;
        for row in &rows.rows {
            found.push(relation(row, tablespace)?);
        }
        if rows.rows.len() < ROWS_AT_ONCE {
            break;
        }
        if found.len() as u64 > MAX_RELATIONS {
            return Err(Error::Unfit {
                reason: format!("one database has more than {MAX_RELATIONS} relations"),
                hint: "leave it out by taking CONNECT on it from the role that asks",
            });
        }
    }
    client.query("COMMIT").await?;
    Ok(found)
}

fn relation(row: &DataRow, default_tablespace: u32) -> Result<RelationName> {
    let name =
        |column| Ok::<_, ServerError>(row.bytes(column)?.map(|name| readable(name)).unwrap_or_default());
    let letter = |column| Ok::<_, ServerError>(row.text(column)?.and_then(|text| text.chars().next()));
    let number = |column| match row.text(column)? {
        Some(_) => row.parse(column).map(Some),
        None => Ok::<Option<u32>, ServerError>(None),
    };
    let contradiction = || Error::Contradiction { what: "of a relation no kind".to_owned() };
    Ok(RelationName {
        oid: row.parse(0)?,
        file: row.parse(1)?,
        tablespace: number(2)?.filter(|tablespace| *tablespace != 0).unwrap_or(default_tablespace),
        schema: name(3)?,
        name: name(4)?,
        kind: letter(5)?.ok_or_else(contradiction)?,
        persistence: letter(6)?.ok_or_else(contradiction)?,
        table: number(7)?,
        partition_of: number(8)?,
    })
}

/// Whose fault a failure is.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// It may be gone in a moment.
    Passing,
    /// This database cannot be read now.
    Lasting,
    /// The server's, or that of the way to it.
    OfServer,
}

fn of_database(error: &Error) -> Fault {
    let Error::Server(error) = error else { return Fault::OfServer };
    match error.sqlstate() {
        // A conflict with recovery cancels the query, or ends the session.
        Some("40001" | "57P04") => Fault::Passing,
        // No connections left; shutting down, crashed, starting up.
        Some(state) if state.starts_with("53") || state.starts_with("57P") => Fault::OfServer,
        Some(_) => Fault::Lasting,
        None => Fault::OfServer,
    }
}

/// The same words each time, so that the same state of things gives the same object.
fn reason(error: &Error) -> String {
    let Error::Server(error) = error else { return error.to_string() };
    match error.server_error() {
        Some(told) if told.sqlstate == "3D000" => "it was dropped meanwhile".to_owned(),
        Some(told) => format!("{} (SQLSTATE {})", told.message, told.sqlstate),
        None => error.to_string(),
    }
}
