//! What a record says, for the records that matter to archiving and recovery
//! (`xact.h`, `pg_control.h`, `storage_xlog.h`, `dbcommands_xlog.h`, `heapam_xlog.h`, PostgreSQL 14–18).

use crate::body::{RecordBody, RelationFile};
use crate::bytes::Fields;
use crate::record::{RecordHeader, rmgr};
use crate::{Lsn, PgVersion, TimelineId, Timestamp};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transaction was committed: at once, or one that had been prepared.
    Commit(Finished),
    /// A transaction or a subtransaction was rolled back, perhaps one that had been prepared.
    Abort(Finished),
    /// A checkpoint.
    Checkpoint(Checkpoint),
    /// The rest of the segment is unused.
    Switch,
    /// Recovery ended here and a new timeline begins, without a checkpoint.
    EndOfRecovery(EndOfRecovery),
    /// `pg_create_restore_point` was called.
    RestorePoint {
        /// When, by the server's clock.
        time: Timestamp,
        /// Its name; bytes that aren't UTF-8 are replaced.
        name: String,
    },
    /// The record that ran into this page is given up: a crash had cut it off.
    OverwriteContrecord {
        /// Where the given-up record starts.
        overwritten: Lsn,
        /// When it was given up, by the server's clock.
        time: Timestamp,
    },
    /// A base backup that was taken from this server ended.
    BackupEnd {
        /// Where that backup starts.
        start: Lsn,
    },
    /// A relation's file is cut to a number of blocks, in place (`VACUUM`, or `TRUNCATE` of a table made in the same
    /// transaction).
    StorageTruncate {
        /// The file.
        relation: RelationFile,
        /// How many blocks it keeps.
        blocks: u32,
        /// Whether the main fork is cut, not only the free space or visibility map.
        main_fork: bool,
    },
    /// A relation gets a file, or a fork of it.
    StorageCreate {
        /// The file.
        relation: RelationFile,
        /// Whether it is the main fork.
        main_fork: bool,
    },
    /// `DROP DATABASE`, or the end of a `CREATE DATABASE` that failed. The transaction may still be rolled back, the files
    /// are gone.
    DatabaseDrop {
        /// OID of the database.
        database: u32,
        /// OIDs of the tablespaces it had files in.
        tablespaces: Vec<u32>,
    },
    /// `DROP TABLESPACE`. Its folders are gone; no relation was in them.
    TablespaceDrop {
        /// OID of the tablespace.
        tablespace: u32,
    },
    /// `TRUNCATE`, as logical decoding sees it; written with `wal_level = logical` only.
    Truncate {
        /// OID of the database.
        database: u32,
        /// OIDs of the relations (not file numbers).
        relations: Vec<u32>,
    },
    /// Anything else.
    Other,
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The transaction that `recovery_target_xid` would name: for a prepared one its own, not the finishing one's.
    pub xid: u32,
    /// When, by the server's clock, just before the record was written.
    pub time: Timestamp,
    /// Whether it had been prepared (`COMMIT PREPARED`, `ROLLBACK PREPARED`).
    pub prepared: bool,
    /// Relation files that vanish with it: a commit's dropped or rewritten tables, an abort's new ones.
    pub dropped: Vec<RelationFile>,
    /// Its subtransactions: a commit's that weren't rolled back, all of an abort's. What a subtransaction wrote carries
    /// its own number, so what a transaction did is what it and these did.
    pub subtransactions: Vec<u32>,
    /// OID of the database it ran in; `None` where the record doesn't say, which is so for many that changed no catalog
    /// and ran without `wal_level = logical`.
    pub database: Option<u32>,
}

/// A checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where recovery from it starts.
    pub redo: Lsn,
    /// Its timeline.
    pub timeline: TimelineId,
    /// The timeline before, where it is the first record of a new one; else the same.
    pub previous_timeline: TimelineId,
    /// When, by the server's clock, in whole seconds.
    pub time: Timestamp,
    /// Whether the server was being shut down, or recovery ended.
    pub shutdown: bool,
}

/// The end of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfRecovery {
    /// When, by the server's clock.
    pub time: Timestamp,
    /// The timeline that begins.
    pub timeline: TimelineId,
    /// The timeline that it leaves.
    pub previous: TimelineId,
}

/// Opcodes in `xl_info` of resource manager [`rmgr::XLOG`].
pub(crate) mod xlog {
    pub(crate) const CHECKPOINT_SHUTDOWN: u8 = 0x00;
    pub(crate) const CHECKPOINT_ONLINE: u8 = 0x10;
    pub(crate) const SWITCH: u8 = 0x40;
    pub(crate) const BACKUP_END: u8 = 0x50;
    pub(crate) const RESTORE_POINT: u8 = 0x70;
    pub(crate) const FPW_CHANGE: u8 = 0x80;
    pub(crate) const END_OF_RECOVERY: u8 = 0x90;
    pub(crate) const FPI_FOR_HINT: u8 = 0xA0;
    pub(crate) const FPI: u8 = 0xB0;
    pub(crate) const OVERWRITE_CONTRECORD: u8 = 0xD0;
}

mod xact {
    pub(super) const COMMIT: u8 = 0x00;
    pub(super) const ABORT: u8 = 0x20;
    pub(super) const COMMIT_PREPARED: u8 = 0x30;
    pub(super) const ABORT_PREPARED: u8 = 0x40;
    pub(super) const OPCODE_MASK: u8 = 0x70;
    /// A word of flags follows the time.
    pub(super) const HAS_INFO: u8 = 0x80;

    pub(super) const HAS_DATABASE: u32 = 1 << 0;
    pub(super) const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
    pub(super) const HAS_RELATION_FILES: u32 = 1 << 2;
    pub(super) const HAS_INVALIDATIONS: u32 = 1 << 3;
    pub(super) const HAS_TWOPHASE: u32 = 1 << 4;
    pub(super) const HAS_DROPPED_STATISTICS: u32 = 1 << 8;

    /// `sizeof(SharedInvalidationMessage)`.
    pub(super) const INVALIDATION_LENGTH: usize = 16;
}

const STORAGE_CREATE: u8 = 0x10;
const STORAGE_TRUNCATE: u8 = 0x20;
const STORAGE_TRUNCATE_HEAP: u32 = 0x0001;
/// `XLOG_DBASE_DROP`: 15 put a second way to create a database before it.
const DATABASE_DROP: u8 = 0x20;
const DATABASE_DROP_V14: u8 = 0x10;
/// `XLOG_TBLSPC_DROP`
pub(crate) const TABLESPACE_DROP: u8 = 0x10;
const HEAP_TRUNCATE: u8 = 0x30;
const HEAP_OPCODE_MASK: u8 = 0x70;

/// Whether [`Kind::decode`] makes more of such a record than [`Kind::Other`].
pub(crate) fn is_decoded(header: &RecordHeader) -> bool {
    match header.rmgr {
        rmgr::XLOG => matches!(
            header.info,
            xlog::CHECKPOINT_SHUTDOWN
                | xlog::CHECKPOINT_ONLINE
                | xlog::SWITCH
                | xlog::BACKUP_END
                | xlog::RESTORE_POINT
                | xlog::END_OF_RECOVERY
                | xlog::OVERWRITE_CONTRECORD
        ),
        rmgr::TRANSACTION => is_transaction_end(header),
        rmgr::STORAGE => matches!(header.info, STORAGE_CREATE | STORAGE_TRUNCATE),
        // Which of them is a drop depends on the version.
        rmgr::DATABASE => true,
        rmgr::TABLESPACE => header.info == TABLESPACE_DROP,
        rmgr::HEAP => header.info & HEAP_OPCODE_MASK == HEAP_TRUNCATE,
        _ => false,
    }
}

/// Whether it is a commit or abort record, at which recovery looks at the time.
pub(crate) fn is_transaction_end(header: &RecordHeader) -> bool {
    let opcode = header.info & xact::OPCODE_MASK;
    header.rmgr == rmgr::TRANSACTION
        && matches!(opcode, xact::COMMIT | xact::ABORT | xact::COMMIT_PREPARED | xact::ABORT_PREPARED)
}

/// Whether a record, of which `main` is the beginning of the main data, makes or drops files of relations, whole databases or
/// tablespaces, or may do so.
pub(crate) fn may_make_or_drop_files(header: &RecordHeader, main: Option<&[u8]>) -> bool {
    match header.rmgr {
        rmgr::STORAGE | rmgr::DATABASE => true,
        rmgr::TABLESPACE => header.info == TABLESPACE_DROP,
        rmgr::TRANSACTION if is_transaction_end(header) && header.info & xact::HAS_INFO != 0 => {
            let has = main.and_then(|main| main.get(8..)).and_then(|rest| Fields(rest).u32());
            has.is_none_or(|has| has & xact::HAS_RELATION_FILES != 0)
        }
        _ => false,
    }
}

/// Whether it is the commit or abort record of the very transaction that wrote it; a prepared one is ended by another.
pub(crate) fn is_end_of_its_own(header: &RecordHeader) -> bool {
    is_transaction_end(header) && matches!(header.info & xact::OPCODE_MASK, xact::COMMIT | xact::ABORT)
}

impl Kind {
    /// What a record says; `None` where its body isn't laid out as this version's servers do it.
    pub fn decode(version: PgVersion, header: &RecordHeader, body: &[u8]) -> Option<Kind> {
        if !is_decoded(header) {
            return Some(Kind::Other);
        }
        let main = RecordBody::parse(version, body)?.main();
        match header.rmgr {
            rmgr::XLOG => decode_xlog(header.info, Fields(main)),
            rmgr::TRANSACTION => {
                let finished = decode_finished(version, header, Fields(main))?;
                let opcode = header.info & xact::OPCODE_MASK;
                let committed = matches!(opcode, xact::COMMIT | xact::COMMIT_PREPARED);
                Some(if committed { Kind::Commit(finished) } else { Kind::Abort(finished) })
            }
            rmgr::STORAGE if header.info == STORAGE_CREATE => decode_storage_create(Fields(main)),
            rmgr::STORAGE => decode_storage_truncate(Fields(main)),
            rmgr::DATABASE => decode_database(version, header, Fields(main)),
            rmgr::TABLESPACE => Some(Kind::TablespaceDrop { tablespace: Fields(main).u32()? }),
            _ => decode_heap_truncate(Fields(main)),
        }
    }
}

fn decode_xlog(info: u8, mut main: Fields<'_>) -> Option<Kind> {
    Some(match info {
        xlog::CHECKPOINT_SHUTDOWN | xlog::CHECKPOINT_ONLINE => {
            Kind::Checkpoint(decode_checkpoint(main, info == xlog::CHECKPOINT_SHUTDOWN)?)
        }
        xlog::SWITCH => Kind::Switch,
        xlog::BACKUP_END => Kind::BackupEnd { start: Lsn(main.u64()?) },
        xlog::RESTORE_POINT => {
            let time = Timestamp(main.i64()?);
            let name = main.0.split(|byte| *byte == 0).next().unwrap_or_default();
            Kind::RestorePoint { time, name: String::from_utf8_lossy(name).into_owned() }
        }
        xlog::END_OF_RECOVERY => Kind::EndOfRecovery(EndOfRecovery {
            // 17 adds the WAL level behind these.
            time: Timestamp(main.i64()?),
            timeline: TimelineId::new(main.u32()?)?,
            previous: TimelineId::new(main.u32()?)?,
        }),
        xlog::OVERWRITE_CONTRECORD => {
            Kind::OverwriteContrecord { overwritten: Lsn(main.u64()?), time: Timestamp(main.i64()?) }
        }
        _ => Kind::Other,
    })
}

/// The struct `CheckPoint`. 17 puts the WAL level where padding was, so all five versions agree on what is read here.
fn decode_checkpoint(mut main: Fields<'_>, shutdown: bool) -> Option<Checkpoint> {
    /// From behind `PrevTimeLineID` to `time`.
    const BETWEEN: usize = 48;
    let redo = Lsn(main.u64()?);
    let timeline = TimelineId::new(main.u32()?)?;
    let previous_timeline = TimelineId::new(main.u32()?)?;
    main.take(BETWEEN)?;
    let time = Timestamp::from_unix_seconds(main.i64()?);
    Some(Checkpoint { redo, timeline, previous_timeline, time, shutdown })
}

/// A commit or abort record (`ParseCommitRecord`, `ParseAbortRecord`).
fn decode_finished(version: PgVersion, header: &RecordHeader, mut main: Fields<'_>) -> Option<Finished> {
    let opcode = header.info & xact::OPCODE_MASK;
    let time = Timestamp(main.i64()?);
    let has = if header.info & xact::HAS_INFO == 0 { 0 } else { main.u32()? };
    let mut database = None;
    if has & xact::HAS_DATABASE != 0 {
        database = Some(main.u32()?);
        let _tablespace = main.u32()?;
    }
    let mut subtransactions = Vec::new();
    if has & xact::HAS_SUBTRANSACTIONS != 0 {
        subtransactions = numbers(main.counted(4)?);
    }
    let mut dropped = Vec::new();
    if has & xact::HAS_RELATION_FILES != 0 {
        for item in main.counted(RelationFile::LENGTH)?.chunks_exact(RelationFile::LENGTH) {
            dropped.push(RelationFile::read(&mut Fields(item))?);
        }
    }
    if has & xact::HAS_DROPPED_STATISTICS != 0 {
        // 18 widened the object's number to 64 bits.
        main.counted(if version >= PgVersion::V18 { 16 } else { 12 })?;
    }
    if has & xact::HAS_INVALIDATIONS != 0 {
        main.counted(xact::INVALIDATION_LENGTH)?;
    }
    let prepared = matches!(opcode, xact::COMMIT_PREPARED | xact::ABORT_PREPARED);
    let xid = if has & xact::HAS_TWOPHASE != 0 { main.u32()? } else { header.xid };
    Some(Finished { xid, time, prepared, dropped, subtransactions, database })
}

/// An array of OIDs or transactions.
pub(crate) fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)).collect()
}

fn decode_storage_create(mut main: Fields<'_>) -> Option<Kind> {
    let relation = RelationFile::read(&mut main)?;
    Some(Kind::StorageCreate { relation, main_fork: main.u32()? == 0 })
}

/// A database record. A database that changes its tablespace is dropped in the old one too, by a transaction that has
/// no number since it changes nothing (`movedb`): that is no drop.
fn decode_database(version: PgVersion, header: &RecordHeader, mut main: Fields<'_>) -> Option<Kind> {
    let drop = if version == PgVersion::V14 { DATABASE_DROP_V14 } else { DATABASE_DROP };
    if header.info != drop || header.xid == 0 {
        return Some(Kind::Other);
    }
    Some(Kind::DatabaseDrop { database: main.u32()?, tablespaces: numbers(main.counted(4)?) })
}

fn decode_storage_truncate(mut main: Fields<'_>) -> Option<Kind> {
    let blocks = main.u32()?;
    let relation = RelationFile::read(&mut main)?;
    Some(Kind::StorageTruncate { relation, blocks, main_fork: main.u32()? & STORAGE_TRUNCATE_HEAP != 0 })
}

fn decode_heap_truncate(mut main: Fields<'_>) -> Option<Kind> {
    let (database, count) = (main.u32()?, main.u32()?);
    // One byte of flags and three of padding (`offsetof(xl_heap_truncate, relids)`).
    main.take(4)?;
    let relations = main.take(usize::try_from(count).ok()?.checked_mul(4)?)?;
    Some(Kind::Truncate { database, relations: numbers(relations) })
}
