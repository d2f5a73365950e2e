//! Streams of WAL, from a server in memory.

use std::time::Duration;

use highwater_wal::{Lsn, TimelineId, Timestamp};

use super::fake::*;
use crate::{
    Error, NextTimeline, StandbyStatus, StartReplication, Started, StreamMessage, WalEvent, WalStream,
};

fn from(lsn: u64) -> StartReplication {
    StartReplication { slot: None, start: Lsn(lsn), timeline: TimelineId::FIRST }
}

fn copy_both() -> Vec<u8> {
    frame(b'W', [0; 3])
}

fn wal(start: u64, bytes: &[u8]) -> Vec<u8> {
    let end = start + bytes.len() as u64;
    copy_data([&b"w"[..], &start.to_be_bytes(), &end.to_be_bytes(), &[0; 8], bytes].concat())
}

fn keepalive(end: u64) -> Vec<u8> {
    copy_data([&b"k"[..], &end.to_be_bytes(), &[0; 8], &[1]].concat())
}

fn next_timeline() -> Vec<u8> {
    let rows = [columns(&["next_tli", "next_tli_startpos"]), row(&[Some("2"), Some("0/1234")])].concat();
    [rows, complete("START_STREAMING"), complete("START_REPLICATION"), ready()].concat()
}

async fn streaming(answers: &[Vec<u8>], end: End) -> WalStream<tokio::io::DuplexStream> {
    let client = client("15.6", answers, 4096, end).await;
    match client.start_replication(&from(0x1000)).await.unwrap() {
        Started::Streaming(stream) => stream,
        Started::Over { .. } => panic!("it was to stream"),
    }
}

fn bytes_of(event: WalEvent) -> Vec<u8> {
    match event {
        WalEvent::Message(StreamMessage::Wal { bytes, .. }) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn wal_comes_until_the_timeline_ends() {
    let stream_of_two = [copy_both(), wal(0x1000, b"abc"), keepalive(0x1003), frame(b'c', [])].concat();
    let mut stream = streaming(&[stream_of_two, next_timeline()], End::Silence).await;
    assert_eq!(bytes_of(stream.next().await.unwrap()), b"abc");
    let keepalive = stream.next().await.unwrap();
    assert!(
        matches!(keepalive, WalEvent::Message(StreamMessage::Keepalive { wants_reply: true, .. })),
        "{keepalive:?}"
    );
    assert_eq!(stream.next().await.unwrap(), WalEvent::TimelineEnd);
    let (next, mut client) = stream.finish().await.unwrap();
    let expected = NextTimeline { timeline: TimelineId::new(2).unwrap(), switch_point: Lsn(0x1234) };
    assert_eq!(next, Some(expected));
    // The connection is good for another command, though nobody answers here.
    client.limits_mut().query = Duration::from_millis(1);
    assert!(matches!(client.identify_system().await, Err(Error::TimedOut { .. })));
}

#[tokio::test]
async fn a_sign_of_life_behind_the_end_of_a_timeline_is_passed_over() {
    let late = [keepalive(0x1003), next_timeline()].concat();
    let mut stream = streaming(&[[copy_both(), frame(b'c', [])].concat(), late], End::Silence).await;
    assert_eq!(stream.next().await.unwrap(), WalEvent::TimelineEnd);
    let (next, _) = stream.finish().await.unwrap();
    assert_eq!(next.map(|next| next.switch_point), Some(Lsn(0x1234)));
}

#[tokio::test]
async fn what_has_come_is_given_at_once_and_nothing_is_waited_for() {
    let both = [copy_both(), wal(0x1000, b"abc"), wal(0x1003, b"de")].concat();
    let mut stream = streaming(&[both], End::Silence).await;
    assert_eq!(bytes_of(stream.next().await.unwrap()), b"abc");
    assert_eq!(stream.next_now().await.unwrap().map(bytes_of).as_deref(), Some(&b"de"[..]));
    assert_eq!(stream.next_now().await.unwrap(), None);
    let mut stream = streaming(&[[copy_both(), wal(0x1000, b"abc")].concat()], End::Close).await;
    assert_eq!(bytes_of(stream.next().await.unwrap()), b"abc");
    let end = loop {
        match stream.next_now().await {
            Ok(None) => tokio::task::yield_now().await,
            end => break end,
        }
    };
    assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
}

#[tokio::test]
async fn a_timeline_that_has_no_more_is_said_at_once() {
    let client = client("15.6", &[next_timeline()], 4096, End::Silence).await;
    match client.start_replication(&from(0x1234)).await.unwrap() {
        Started::Over { next, .. } => assert_eq!(next.switch_point, Lsn(0x1234)),
        Started::Streaming(_) => panic!("there is nothing to stream"),
    }
}

#[tokio::test]
async fn what_is_said_back_arrives_as_a_status() {
    let (stream, server) = fake(vec![welcome("15.6"), copy_both()], 4096, End::Silence);
    let client = log_in(stream, crate::Limits::default()).await.unwrap();
    let Started::Streaming(mut stream) = client.start_replication(&from(0)).await.unwrap() else { panic!() };
    let status = StandbyStatus { written: Lsn(9), flushed: Lsn(7), wants_reply: false };
    stream.report(&status, Timestamp(5)).await.unwrap();
    drop(stream);
    let heard = server.await.unwrap();
    assert_eq!(heard[2], frame(b'd', status.encode(Timestamp(5))));
}

#[tokio::test]
async fn a_shutdown_and_removed_wal_are_told_apart() {
    let over = [copy_both(), complete("COPY 0")].concat();
    let mut stream = streaming(&[over], End::Close).await;
    assert_eq!(stream.next().await.unwrap(), WalEvent::Shutdown);

    // It has gone when it is told how far we are: what it said before that counts.
    let over = [copy_both(), wal(0x1000, b"abc"), complete("COPY 0")].concat();
    let mut stream = streaming(&[over], End::Close).await;
    let status = StandbyStatus { written: Lsn(9), flushed: Lsn(7), wants_reply: false };
    for _ in 0..3 {
        stream.report(&status, Timestamp(5)).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(bytes_of(stream.next().await.unwrap()), b"abc");
    stream.report(&status, Timestamp(5)).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), WalEvent::Shutdown);

    let gone =
        [copy_both(), error("ERROR", "58P01", "requested WAL segment has already been removed")].concat();
    let mut stream = streaming(&[gone], End::Silence).await;
    let error = stream.next().await.unwrap_err();
    assert!(error.is_wal_removed(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silence_has_a_limit_however_often_one_looks() {
    let mut client = client("15.6", &[copy_both()], 4096, End::Silence).await;
    client.limits_mut().idle = Duration::from_secs(10);
    let Started::Streaming(mut stream) = client.start_replication(&from(0)).await.unwrap() else { panic!() };
    let begun = tokio::time::Instant::now();
    let error = loop {
        match tokio::time::timeout(Duration::from_secs(3), stream.next()).await {
            Ok(event) => break event.unwrap_err(),
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(20), "it waits for ever"),
        }
    };
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn r22_nonsense_in_a_stream_is_refused() {
    for nonsense in [copy_data("x"), copy_data(""), row(&[None]), frame(b'W', [0; 3])] {
        let mut stream = streaming(&[[copy_both(), nonsense].concat()], End::Silence).await;
        let error = stream.next().await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
    for answer in [ready(), [columns(&["a"]), row(&[Some("x"), Some("y")])].concat(), copy_out()] {
        let client = client("15.6", &[answer], 4096, End::Close).await;
        let error = client.start_replication(&from(0)).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
}
