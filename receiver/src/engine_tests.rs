//! What [`Engine`] takes in while something of it is on its way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_repository::TailPiece;
use highwater_wal::{Check, Lsn, SegmentKind, SegmentName, Summary, TimelineId, check_segment};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::buffer::Chunks;
use crate::engine::{Engine, Place, Taking};
use crate::error::Result;
use crate::progress::Policy;
use crate::simulation::{SYSTEM, size, wal};
use crate::target::Target;

const SEGMENT: u64 = 1 << 20;
/// Nothing of this takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Takes segments at once, and a piece when it is let.
#[derive(Debug)]
struct Held(Semaphore);

#[async_trait]
impl Target for Held {
    async fn put_piece(&self, _: TailPiece, _: Chunks, _: Option<Summary>, _: bool) -> Result<()> {
        self.0.acquire().await.expect("it is never closed").forget();
        Ok(())
    }

    fn is_quick(&self, _: TailPiece) -> bool {
        true
    }

    async fn put_segment(&self, name: SegmentName, bytes: Chunks) -> Result<Summary> {
        let bytes = bytes.pieces().concat();
        Ok(check_segment(name, size(), Some(SYSTEM), &bytes, Check::Header, SegmentKind::Complete)?)
    }

    async fn remove_pieces(&self, _: SegmentName) -> Result<()> {
        Ok(())
    }

    async fn mark(&self, _: TimelineId, _: Lsn) -> Result<()> {
        Ok(())
    }
}

/// Receives up to `to`, and begins what is to be put.
fn receive(engine: &mut Engine<Held>, to: u64) {
    let from = engine.progress().received();
    engine.receive(from, &wal(from, to - from.0)).unwrap();
    engine.begin_puts();
}

async fn until(engine: &mut Engine<Held>, holds: impl Fn(&Engine<Held>) -> bool) {
    while !holds(engine) {
        timeout(LIMIT, engine.finished()).await.expect("something ends").unwrap();
        engine.begin_puts();
    }
}

#[tokio::test]
async fn a_segment_waits_until_no_piece_holds_the_memory_that_it_takes_over() {
    let held = Arc::new(Held(Semaphore::new(0)));
    let policy = Policy { synchronous: true, ..Policy::default() };
    let taking = Taking { size: size(), system_id: SYSTEM, check: Check::Header, policy };
    let (begin, timeline) = (Lsn(0), TimelineId::FIRST);
    let place = Place { timeline, begin, stored: begin, pieces: Vec::new(), damaged: [].into() };
    let mut engine = Engine::new(taking, Arc::clone(&held), place);
    // A piece of the first segment is on its way, while that comes whole and is put so.
    receive(&mut engine, 1000);
    receive(&mut engine, SEGMENT);
    assert!(engine.has_room(), "the second one takes memory of its own");
    until(&mut engine, |engine| engine.progress().whole() == Lsn(SEGMENT)).await;
    assert!(engine.progress().has_room() && !engine.has_room(), "its memory is held");
    held.0.add_permits(1);
    until(&mut engine, Engine::has_room).await;

    // A piece of the segment that comes holds nobody up, nor is there anything to wait for while that has room.
    receive(&mut engine, SEGMENT + 1000);
    assert!(engine.has_room());
    held.0.add_permits(1);
    until(&mut engine, |engine| engine.progress().is_durable()).await;
    receive(&mut engine, 2 * SEGMENT - 500_000);
    receive(&mut engine, 2 * SEGMENT + 1000);
    until(&mut engine, |engine| engine.progress().whole() == Lsn(2 * SEGMENT)).await;
    assert!(engine.has_room(), "the third one is open, and has room");
    receive(&mut engine, 3 * SEGMENT - 1000);
    assert!(engine.progress().has_room() && !engine.has_room(), "a message may reach into the fourth one");
    held.0.add_permits(1);
    until(&mut engine, Engine::has_room).await;
}

#[tokio::test]
async fn there_is_memory_for_two_segments_and_no_third() {
    let held = Arc::new(Held(Semaphore::new(9)));
    let taking = Taking { size: size(), system_id: SYSTEM, check: Check::Header, policy: Policy::default() };
    let (begin, timeline) = (Lsn(0), TimelineId::FIRST);
    let place = Place { timeline, begin, stored: begin, pieces: Vec::new(), damaged: [].into() };
    let mut engine = Engine::new(taking, held, place);
    receive(&mut engine, SEGMENT + 1000);
    assert!(engine.has_room());
    receive(&mut engine, 2 * SEGMENT - 1000);
    assert!(engine.progress().has_room() && !engine.has_room(), "a message may reach into a third one");
    until(&mut engine, |engine| engine.progress().whole() == Lsn(SEGMENT)).await;
    assert!(engine.has_room(), "there is the first one's");
}
