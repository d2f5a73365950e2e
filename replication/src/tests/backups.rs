//! Base backups from a server in memory, in the form of PostgreSQL 15 and newer and in that of 14.

use std::time::Duration;

use highwater_wal::{Lsn, TimelineId};
use tokio::io::DuplexStream;

use super::fake::*;
use crate::{Archive, BackupEvent, BackupStream, BaseBackup, Error, Result};

const TAGGED: &str = "15.6";
const BY_TABLESPACE: &str = "14.23";

fn position(lsn: &str) -> Vec<u8> {
    [columns(&["recptr", "tli"]), row(&[Some(lsn), Some("3")]), complete("SELECT")].concat()
}

fn head() -> Vec<u8> {
    let tablespaces = [
        columns(&["spcoid", "spclocation", "size"]),
        row(&[Some("16384"), Some("/srv/ts"), Some("7")]),
        row(&[None, None, Some("42")]),
        complete("SELECT"),
    ];
    [position("0/2000028"), tablespaces.concat()].concat()
}

fn tail() -> Vec<u8> {
    [position("0/2000100"), complete("BASE_BACKUP"), ready()].concat()
}

fn copy(messages: &[&[u8]]) -> Vec<u8> {
    let data: Vec<u8> = messages.iter().flat_map(copy_data).collect();
    [copy_out(), data, copy_done()].concat()
}

/// A backup with one tablespace and a manifest, as this version sends it.
fn whole(version: &str) -> Vec<Vec<u8>> {
    let body = match version {
        TAGGED => copy(&[
            b"n16384.tar\0/srv/ts\0",
            b"dtable",
            b"p\0\0\0\0\0\0\0\x05",
            b"d",
            b"dspace",
            b"nbase.tar\0\0",
            b"dbase",
            b"m",
            b"d{",
            b"d}",
        ]),
        _ => [copy(&[b"table", b"", b"space"]), copy(&[b"base"]), copy(&[b"{", b"}"])].concat(),
    };
    vec![head(), body, tail()]
}

async fn start(version: &str, answer: Vec<u8>, width: usize, end: End) -> Result<BackupStream<DuplexStream>> {
    client(version, &[answer], width, end).await.base_backup(&BaseBackup::new("b")).await
}

async fn events(backup: &mut BackupStream<DuplexStream>) -> Result<String> {
    let mut told = String::new();
    while let Some(event) = backup.next().await? {
        told += &match event {
            BackupEvent::Archive(Archive::Base) => "[base]".to_owned(),
            BackupEvent::Archive(Archive::Tablespace(oid)) => format!("[{oid}]"),
            BackupEvent::Manifest => "[manifest]".to_owned(),
            BackupEvent::Data(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            BackupEvent::Progress(_) => String::new(),
        };
    }
    Ok(told)
}

#[tokio::test]
async fn both_forms_give_the_same_events_cut_at_every_byte() {
    for version in [TAGGED, BY_TABLESPACE] {
        for width in [1, 2, 3, 7, 64, 4096] {
            let mut backup = start(version, whole(version).concat(), width, End::Silence).await.unwrap();
            let start = backup.start().clone();
            assert_eq!((start.position, start.timeline.get()), (Lsn(0x200_0028), 3));
            assert_eq!(start.base_size_kb, Some(42));
            let tablespace = &start.tablespaces[0];
            assert_eq!((tablespace.oid, tablespace.size_kb), (16384, Some(7)));
            assert_eq!(tablespace.location.to_str(), Some("/srv/ts"));
            assert_eq!(events(&mut backup).await.unwrap(), "[16384]tablespace[base]base[manifest]{}");
            assert_eq!(backup.next().await.unwrap(), None);
            let (stop, client) = backup.finish().unwrap();
            assert_eq!((stop.position, stop.timeline), (Lsn(0x200_0100), TimelineId::new(3).unwrap()));
            assert_eq!(client.server_version().to_string(), version);
        }
    }
}

#[tokio::test]
async fn progress_is_told_and_the_connection_goes_on() {
    let mut client =
        client(TAGGED, &[whole(TAGGED).concat(), [complete("SET"), ready()].concat()], 64, End::Silence)
            .await;
    client.limits_mut().idle = Duration::from_secs(9);
    let mut backup = client.base_backup(&BaseBackup::new("b")).await.unwrap();
    let mut progress = Vec::new();
    while let Some(event) = backup.next().await.unwrap() {
        if let BackupEvent::Progress(bytes) = event {
            progress.push(bytes);
        }
    }
    assert_eq!(progress, [5]);
    let (_, mut client) = backup.finish().unwrap();
    assert_eq!(client.query("set a = b").await.unwrap().tag, "SET");
}

#[tokio::test]
async fn a_backup_cut_short_is_never_whole() {
    for version in [TAGGED, BY_TABLESPACE] {
        let answer = whole(version).concat();
        for cut in 0..answer.len() {
            let Ok(mut backup) = start(version, answer[..cut].to_vec(), 4096, End::Close).await else {
                assert!(cut < head().len());
                continue;
            };
            let error = events(&mut backup).await.unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{cut}: {error}");
            assert!(matches!(backup.finish(), Err(Error::Closed { .. })), "{cut}");
        }
    }
}

#[tokio::test]
async fn an_error_at_the_end_over_damaged_pages_is_told_apart() {
    for version in [TAGGED, BY_TABLESPACE] {
        let [head, body, _] = whole(version).try_into().unwrap();
        let damaged =
            [notice("page 7"), error("ERROR", "XX001", "checksum verification failure"), ready()].concat();
        let answer = [head.clone(), body, position("0/2000100"), damaged.clone()].concat();
        let mut backup = start(version, answer, 64, End::Silence).await.unwrap();
        let failure = events(&mut backup).await.unwrap_err();
        assert!(matches!(failure, Error::ChecksumFailure(_)), "{failure}");
        assert_eq!(failure.sqlstate(), Some("XX001"));
        assert_eq!(backup.take_notices()[0].message, "page 7");
        assert!(backup.finish().is_err());

        // Half-way, the same SQLSTATE means that the backup is not there at all.
        let mut backup =
            start(version, [head.clone(), copy_out(), damaged].concat(), 64, End::Silence).await.unwrap();
        assert!(matches!(events(&mut backup).await, Err(Error::Server(_))));
        let refused = error("ERROR", "42501", "must be superuser or replication role");
        let failure =
            start(version, [refused, ready()].concat(), 64, End::Silence).await.map(drop).unwrap_err();
        assert_eq!(failure.sqlstate(), Some("42501"));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_has_a_limit_before_and_within_the_files() {
    let mut silent = client(TAGGED, &[], 64, End::Silence).await;
    silent.limits_mut().checkpoint = Duration::from_secs(600);
    let error = silent.base_backup(&BaseBackup::new("b")).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::TimedOut { limit, .. } if limit == Duration::from_secs(600)), "{error}");

    let mut backup = start(TAGGED, [head(), copy_out()].concat(), 64, End::Silence).await.unwrap();
    let error = events(&mut backup).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { limit, .. } if limit == Duration::from_secs(300)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_next_event_can_be_given_up_and_taken_up() {
    let mut backup = start(TAGGED, whole(TAGGED).concat(), 1, End::Silence).await.unwrap();
    let mut told = Vec::new();
    // Each try gets a few polls only, so that it is given up in the middle of messages.
    loop {
        match tokio::time::timeout(Duration::ZERO, backup.next()).await {
            Ok(event) => match event.unwrap() {
                Some(event) => told.push(event),
                None => break,
            },
            Err(_) => tokio::task::yield_now().await,
        }
    }
    assert_eq!(told.len(), 9);
    backup.finish().unwrap();
}

#[tokio::test]
async fn r22_a_backup_out_of_order_is_refused() {
    let manifest_first = copy(&[b"m", b"d{}", b"nbase.tar\0\0"]);
    let bodies = [
        copy(&[b"dno file"]),
        manifest_first,
        copy(&[b"n99.tar\0/x\0"]),
        copy(&[b"nbase.tar\0/x\0"]),
        copy(&[b"n../../etc/passwd\0\0"]),
        copy(&[b"nbase.tar\0\0", b"n16384.tar\0/srv/ts\0"]),
        copy(&[b"nbase.tar\0\0", b"dbase"]),
        copy(&[b"nbase.tar\0\0", b"m", b"m"]),
        copy(&[b"x"]),
        copy(&[b""]),
        copy_data(b"dx"),
        [copy(&[b"nbase.tar\0\0", b"m"]), copy_out()].concat(),
        tail(),
        ready(),
    ];
    for body in bodies {
        let mut backup = start(TAGGED, [head(), body, tail()].concat(), 4096, End::Close).await.unwrap();
        let error = events(&mut backup).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
    for body in [tail(), copy(&[b"one"]), [copy(&[]), copy(&[]), copy(&[]), copy(&[])].concat()] {
        let mut backup =
            start(BY_TABLESPACE, [head(), body, tail()].concat(), 4096, End::Close).await.unwrap();
        let error = events(&mut backup).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
    let no_base =
        [columns(&["a", "b", "c"]), row(&[Some("1"), Some("/x"), None]), complete("SELECT")].concat();
    let two_bases =
        [columns(&["a", "b", "c"]), row(&[None; 3]), row(&[None; 3]), complete("SELECT")].concat();
    let no_location = [columns(&["a", "b", "c"]), row(&[Some("1"), None, None]), complete("SELECT")].concat();
    let start_at =
        |text: &str| [columns(&["a", "b"]), row(&[Some(text), Some("1")]), complete("SELECT")].concat();
    for head in [
        start_at("nowhere"),
        [columns(&["a"]), complete("SELECT")].concat(),
        [position("0/1"), no_base].concat(),
        [position("0/1"), two_bases].concat(),
        [position("0/1"), no_location].concat(),
        copy_out(),
    ] {
        let error = start(TAGGED, head, 4096, End::Close).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
}
