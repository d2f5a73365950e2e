//! Streams of WAL from servers of every version.

use std::time::Duration;

use crate::common::{replication, sql};
use highwater_replication::{
    Client, Error, StandbyStatus, StartReplication, Started, StreamMessage, WalEvent, WalStream,
};
use highwater_tests::{PATIENCE, Postgres, StopMode, VERSIONS};
use highwater_wal::{Lsn, TimelineId, Timestamp};
use tokio::time::timeout;

fn start(slot: Option<&str>, start: Lsn, timeline: TimelineId) -> StartReplication {
    StartReplication { slot: slot.map(|slot| slot.parse().unwrap()), start, timeline }
}

async fn streaming(mut client: Client, options: &StartReplication) -> WalStream {
    client.identify_system().await.unwrap();
    match client.start_replication(options).await.unwrap() {
        Started::Streaming(stream) => stream,
        Started::Over { next, .. } => panic!("it is over: {next:?}"),
    }
}

/// Reads up to `end` and acknowledges all of it; the bytes and what came behind them, if it was no WAL.
async fn read_until(stream: &mut WalStream, end: Lsn, bytes: &mut Vec<u8>, at: &mut Lsn) -> Option<WalEvent> {
    while *at < end {
        match timeout(PATIENCE, stream.next()).await.unwrap().unwrap() {
            WalEvent::Message(StreamMessage::Wal { start, bytes: piece, server_end, .. }) => {
                assert_eq!(start, *at);
                assert!(server_end >= start + piece.len() as u64);
                bytes.extend_from_slice(&piece);
                *at = start + piece.len() as u64;
            }
            // All that came was reported. A server that is shut down ends with the report of the last WAL, and takes no other.
            WalEvent::Message(StreamMessage::Keepalive { .. }) => continue,
            other => return Some(other),
        }
        report(stream, *at).await;
    }
    None
}

async fn report(stream: &mut WalStream, at: Lsn) {
    let status = StandbyStatus { written: at, flushed: at, wants_reply: false };
    stream.report(&status, Timestamp(0)).await.unwrap();
}

fn position(server: &Postgres) -> Lsn {
    server.value("select pg_current_wal_flush_lsn()").parse().unwrap()
}

#[tokio::test]
async fn what_is_streamed_is_what_lies_in_pg_wal() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).wal_segment_size_mb(1).start();
        let text = server.connection_string();
        let slot = "highwater".parse().unwrap();
        let mut client = replication(&text).await.unwrap();
        let mut by_sql = sql(&text).await.unwrap();
        assert_eq!(by_sql.replication_slot_by_sql(&slot).await.unwrap(), None);
        assert!(client.create_physical_slot(&slot).await.unwrap());
        assert!(!client.create_physical_slot(&slot).await.unwrap(), "it is there already");
        let found = by_sql.replication_slot_by_sql(&slot).await.unwrap().unwrap();
        assert!(found.is_physical && found.restart_lsn.is_some());
        if client.reads_slots() {
            assert_eq!(client.replication_slot(&slot).await.unwrap(), Some(found));
            assert_eq!(client.replication_slot(&"other".parse().unwrap()).await.unwrap(), None);
        }
        let begin = Lsn(found.restart_lsn.unwrap().0 & !0xF_FFFF);
        server.sql("create table t as select generate_series(1, 20000) as n");
        let end = position(&server);
        let mut stream = streaming(client, &start(Some("highwater"), begin, TimelineId::FIRST)).await;
        let (mut bytes, mut at) = (Vec::new(), begin);
        assert_eq!(read_until(&mut stream, end, &mut bytes, &mut at).await, None);
        let first = server.value(&format!("select pg_walfile_name('{}'::pg_lsn + 1)", begin));
        let on_disk = std::fs::read(server.data_dir().join("pg_wal").join(&first)).unwrap();
        assert_eq!(bytes[..1 << 20], on_disk[..], "PostgreSQL {version}");
        // What was acknowledged is where the slot is.
        let reached = format!("select restart_lsn >= '{end}' from pg_replication_slots");
        server.wait_for(&reached, PATIENCE);
    }
}

#[tokio::test]
async fn a_clean_shutdown_waits_for_the_last_acknowledgement_and_no_longer() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).wal_segment_size_mb(1).start();
        let client = replication(&server.connection_string()).await.unwrap();
        let begin = Lsn(position(&server).0 & !0xF_FFFF);
        let mut stream = streaming(client, &start(None, begin, TimelineId::FIRST)).await;
        let stopping = std::thread::spawn(move || {
            server.stop(StopMode::Fast);
            server
        });
        let (mut bytes, mut at) = (Vec::new(), begin);
        let last = read_until(&mut stream, Lsn(u64::MAX), &mut bytes, &mut at).await;
        assert_eq!(last, Some(WalEvent::Shutdown), "PostgreSQL {version}");
        let server = stopping.join().unwrap();
        assert!(server.log().contains("database system is shut down"));
    }
}

#[tokio::test]
async fn a_promotion_is_followed_to_the_next_timeline() {
    for version in VERSIONS {
        let primary = Postgres::builder().version(version).wal_segment_size_mb(1).start();
        let standby = primary.standby("one").start();
        let begin = Lsn(position(&primary).0 & !0xF_FFFF);
        primary.sql("create table t as select generate_series(1, 1000) as n");
        standby.wait_for("select count(*) = 1000 from t", PATIENCE);
        let client = replication(&standby.connection_string()).await.unwrap();
        let mut stream = streaming(client, &start(None, begin, TimelineId::FIRST)).await;
        let (mut bytes, mut at) = (Vec::new(), begin);
        assert_eq!(read_until(&mut stream, position(&primary), &mut bytes, &mut at).await, None);
        standby.promote();
        let last = read_until(&mut stream, Lsn(u64::MAX), &mut bytes, &mut at).await;
        assert_eq!(last, Some(WalEvent::TimelineEnd), "PostgreSQL {version}");
        let (next, mut client) = stream.finish().await.unwrap();
        let next = next.unwrap();
        assert_eq!((next.timeline.get(), next.switch_point), (2, at));
        let identity = client.identify_system().await.unwrap();
        assert_eq!(identity.timeline, next.timeline);
        // The old timeline has nothing behind the switch point, and a place behind it is not in the server's history.
        match client.start_replication(&start(None, at, TimelineId::FIRST)).await.unwrap() {
            Started::Over { next: again, client: given_back } => {
                assert_eq!(again, next);
                client = given_back;
            }
            Started::Streaming(_) => panic!("there is nothing to stream"),
        }
        // The segment in which the new timeline begins is there from its start.
        let mut stream = streaming(client, &start(None, Lsn(at.0 & !0xF_FFFF), next.timeline)).await;
        let (mut copy, mut from) = (Vec::new(), Lsn(at.0 & !0xF_FFFF));
        assert_eq!(read_until(&mut stream, position(&standby), &mut copy, &mut from).await, None);
        let same = (at.0 & 0xF_FFFF) as usize;
        assert_eq!(copy[..same], bytes[bytes.len() - same..]);
        // Ended in the middle, the connection is good for more.
        let (none, mut client) = stream.finish().await.unwrap();
        assert_eq!(none, None);
        assert_eq!(client.identify_system().await.unwrap(), client.identify_system().await.unwrap());
    }
}

#[tokio::test]
async fn what_the_server_no_longer_has_is_said_as_the_loss_of_wal() {
    let server = Postgres::builder().wal_segment_size_mb(1).setting("max_wal_size", "2MB").start();
    for _ in 0..4 {
        server.sql("select pg_logical_emit_message(true, 'x', repeat('x', 1000000)), pg_switch_wal()");
        server.sql("checkpoint");
    }
    let client = replication(&server.connection_string()).await.unwrap();
    let mut stream = streaming(client, &start(None, Lsn(0x10_0000), TimelineId::FIRST)).await;
    let error = timeout(Duration::from_secs(60), stream.next()).await.unwrap().unwrap_err();
    assert!(error.is_wal_removed(), "{error}");
    let client = replication(&server.connection_string()).await.unwrap();
    let missing = start(Some("missing"), Lsn(0x10_0000), TimelineId::FIRST);
    let error = client.start_replication(&missing).await.map(drop).unwrap_err();
    assert_eq!(error.sqlstate(), Some("42704"), "{error}");
    // WAL of the future.
    let client = replication(&server.connection_string()).await.unwrap();
    let mut stream = streaming(client, &start(None, Lsn(u64::MAX >> 8), TimelineId::FIRST)).await;
    let error = timeout(PATIENCE, stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Server(_)) && !error.is_wal_removed(), "{error}");
}
