//! Real segments with damage done to them: refused, or what they say is the same as before.

use std::cell::Cell;
use std::fs;

use highwater_tests::{Postgres, StopMode};
use highwater_wal::{Kind, Records, SegmentKind, SegmentName, Summary, Unfinished};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::{ARCHIVE_COMMAND, archived_segments, check, exercise};

const MIB: usize = 1 << 20;
const PAGE: usize = 8192;

/// Something that happens to files.
#[derive(Debug, Clone)]
enum Damage {
    /// A bit flips.
    Bit { at: usize, bit: u8 },
    /// A byte becomes another.
    Byte { at: usize, value: u8 },
    /// A stretch is never written.
    Zeros { at: usize, length: usize },
    /// A page is written in another's place.
    Page { from: usize, to: usize },
    /// All behind a page is that of another segment.
    Tail { from: usize },
}

fn damage() -> impl Strategy<Value = Damage> {
    let pages = MIB / PAGE;
    prop_oneof![
        (0..MIB, 0..8_u8).prop_map(|(at, bit)| Damage::Bit { at, bit }),
        (0..MIB, any::<u8>()).prop_map(|(at, value)| Damage::Byte { at, value }),
        (0..MIB, 1..3 * PAGE).prop_map(|(at, length)| Damage::Zeros { at, length }),
        (0..pages, 0..pages).prop_map(|(from, to)| Damage::Page { from, to }),
        (1..pages).prop_map(|from| Damage::Tail { from }),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut [u8], other: &[u8]) {
        match *self {
            Damage::Bit { at, bit } => bytes[at] ^= 1 << bit,
            Damage::Byte { at, value } => bytes[at] = value,
            Damage::Zeros { at, length } => bytes[at..(at + length).min(MIB)].fill(0),
            Damage::Page { from, to } => bytes.copy_within(from * PAGE..(from + 1) * PAGE, to * PAGE),
            Damage::Tail { from } => bytes[from * PAGE..].copy_from_slice(&other[from * PAGE..]),
        }
    }
}

fn segments() -> Vec<(SegmentName, Vec<u8>, Summary)> {
    let server = Postgres::builder().wal_segment_size_mb(1).archive_command(ARCHIVE_COMMAND).start();
    exercise(&server);
    server.stop(StopMode::Fast);
    let read = |(name, path): (SegmentName, std::path::PathBuf)| {
        let bytes = fs::read(path).unwrap();
        let summary = check(name, &bytes, SegmentKind::Complete).unwrap();
        (name, bytes, summary)
    };
    archived_segments(server.folder(), 1).into_iter().map(read).collect()
}

/// What must not change unseen. How much of a record lies behind a border, only the segment on the other side proves.
fn provable(summary: &Summary) -> Summary {
    let unfinished = summary.unfinished.map(|unfinished| Unfinished { remaining: 0, ..unfinished });
    let continued = summary.continued.next_multiple_of(8);
    Summary { unfinished, continued, runs_in: String::new(), runs_out: String::new(), ..summary.clone() }
}

#[test]
fn r04_damage_is_refused_or_changes_nothing() {
    let segments = segments();
    let refused = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1500));
    let result = runner.run(&(0..segments.len(), damage()), |(number, damage)| {
        let (name, bytes, summary) = &segments[number];
        let mut damaged = bytes.clone();
        damage.apply(&mut damaged, &segments[(number + 1) % segments.len()].1);
        match check(*name, &damaged, SegmentKind::Complete) {
            Ok(found) => prop_assert_eq!(provable(&found), provable(summary)),
            Err(refusal) => {
                prop_assert!(damaged != *bytes, "nothing was damaged: {}", refusal);
                refused.set(refused.get() + 1);
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let refused = refused.get();
    assert!(refused > 700, "only {refused} of 1500 were refused");
}

#[test]
fn r04_every_byte_of_a_commit_record_counts() {
    let segments = segments();
    let (name, bytes, summary) = segments.iter().max_by_key(|(.., summary)| summary.commits).unwrap();
    let point = summary.first_commit.unwrap();
    let start = (point.lsn.0 % MIB as u64) as usize;
    let mut records = Records::new(summary.segment_size, None);
    records.push_segment(*name, &bytes[..]).unwrap();
    let commit = records.map(Result::unwrap).find(|record| record.lsn == point.lsn).unwrap();
    assert!(matches!(commit.kind, Kind::Commit(_)));
    for at in start..start + commit.header.length as usize {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let refusal = check(*name, &damaged, SegmentKind::Complete).unwrap_err();
            assert!(refusal.lsn >= point.lsn, "byte {at}, bit {bit}: {refusal}");
        }
    }
}
