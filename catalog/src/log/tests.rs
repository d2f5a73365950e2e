//! Random histories of transactions, told by records, cut into stretches: the log tells what the histories did.

use std::collections::{BTreeMap, BTreeSet};

use highwater_wal::{Lsn, RelationFile, TimelineId, Timestamp};
use proptest::prelude::*;

use super::*;

const DATABASE: u32 = 5;

fn file(relation: u32) -> RelationFile {
    RelationFile { tablespace: 1663, database: DATABASE, relation }
}

/// What a record of the model says.
#[derive(Debug, Clone)]
enum Said {
    Rows {
        xid: u32,
        relation: u32,
        inserted: u64,
        deleted: u64,
    },
    /// A subtransaction is rolled back, with those below it.
    SubtransactionAborted {
        xid: u32,
        below: Vec<u32>,
    },
    Ended {
        xid: u32,
        committed: bool,
        subtransactions: Vec<u32>,
    },
    Running {
        next: u32,
    },
}

/// Rows inserted and deleted, by relation.
type Counted = BTreeMap<u32, (u64, u64)>;

/// What a transaction did, as the model knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Truth {
    rows: Counted,
    committed: bool,
    first: usize,
}

/// A transaction that runs: its own number, and the savepoints that are set in it, each with what happened since.
#[derive(Debug, Clone)]
struct Running {
    levels: Vec<(u32, Counted)>,
    /// Subtransactions that were released, or are below such, by level.
    released: Vec<Vec<u32>>,
    first: Option<usize>,
}

#[derive(Debug, Default)]
struct History {
    said: Vec<Said>,
    /// By xid, in the order in which they ended.
    ended: Vec<(u32, Truth)>,
    next: u32,
    running: Vec<Running>,
}

impl History {
    fn step(&mut self, (act, which, relation, rows): (u8, usize, u32, u64)) {
        if act < 2 || self.running.is_empty() {
            if self.running.len() < 5 {
                let xid = self.take();
                let first = Some(self.said.len());
                self.running.push(Running {
                    levels: vec![(xid, BTreeMap::new())],
                    released: vec![vec![]],
                    first,
                });
            }
            return;
        }
        let which = which % self.running.len();
        match act {
            2..=8 => self.change(which, relation % 4, rows),
            9 => {
                let xid = self.take();
                self.running[which].levels.push((xid, BTreeMap::new()));
                self.running[which].released.push(vec![]);
            }
            10 => self.release(which),
            11 => self.roll_back_to(which),
            12 => {
                let next = self.next;
                self.said.push(Said::Running { next });
            }
            13..=15 => self.end(which, act != 15),
            _ => {}
        }
    }

    fn take(&mut self) -> u32 {
        let xid = self.next;
        // 0 to 2 are no transactions' numbers.
        self.next = xid.wrapping_add(1).max(3);
        xid
    }

    fn change(&mut self, which: usize, relation: u32, rows: u64) {
        let (inserted, deleted) = (rows % 10, rows / 10);
        let (xid, counted) = self.running[which].levels.last_mut().unwrap();
        let of_relation = counted.entry(relation).or_default();
        *of_relation = (of_relation.0 + inserted, of_relation.1 + deleted);
        let xid = *xid;
        self.said.push(Said::Rows { xid, relation, inserted, deleted });
    }

    fn release(&mut self, which: usize) {
        let running = &mut self.running[which];
        if running.levels.len() < 2 {
            return;
        }
        let (xid, rows) = running.levels.pop().unwrap();
        let mut below = running.released.pop().unwrap();
        below.push(xid);
        running.released.last_mut().unwrap().extend(below);
        let outer = &mut running.levels.last_mut().unwrap().1;
        for (relation, (inserted, deleted)) in rows {
            let sum = outer.entry(relation).or_default();
            *sum = (sum.0 + inserted, sum.1 + deleted);
        }
    }

    fn roll_back_to(&mut self, which: usize) {
        let running = &mut self.running[which];
        if running.levels.len() < 2 {
            return;
        }
        let (xid, _) = running.levels.pop().unwrap();
        let below = running.released.pop().unwrap();
        self.said.push(Said::SubtransactionAborted { xid, below });
    }

    fn end(&mut self, which: usize, committed: bool) {
        while self.running[which].levels.len() > 1 {
            self.release(which);
        }
        let mut running = self.running.remove(which);
        let (xid, rows) = running.levels.pop().unwrap();
        let subtransactions = running.released.pop().unwrap();
        self.said.push(Said::Ended { xid, committed, subtransactions });
        self.ended.push((xid, Truth { rows, committed, first: running.first.unwrap() }));
    }
}

fn feed(assembler: &mut Assembler, at: usize, said: &Said) {
    let lsn = Lsn(at as u64 * 10);
    let end = |xid, committed, subtransactions: &[u32]| End {
        lsn,
        end: lsn + 10,
        time: Timestamp(at as i64),
        timeline: TimelineId::FIRST,
        xid,
        committed,
        prepared: false,
        restore_point: None,
        dropped: Vec::new(),
        database: None,
        subtransactions: subtransactions.to_vec(),
        deeds: Deeds::default(),
        is_whole: false,
    };
    match said {
        Said::Rows { xid, relation, inserted, deleted } => {
            let rows = Rows { inserted: *inserted, updated: 0, deleted: *deleted };
            assembler.rows(lsn, *xid, file(*relation), rows);
        }
        Said::SubtransactionAborted { xid, below } => assembler.ended(end(*xid, false, below)),
        Said::Ended { xid, committed, subtransactions } => {
            assembler.ended(end(*xid, *committed, subtransactions));
        }
        Said::Running { next } => assembler.next_xid(*next),
    }
}

/// Reads stretches, newest first, as far back as `oldest`; answers what was let go, in order.
fn read(history: &History, cuts: &BTreeSet<usize>, oldest: usize) -> Vec<End> {
    let mut borders: Vec<usize> =
        cuts.iter().copied().filter(|cut| *cut > oldest && *cut < history.said.len()).collect();
    borders.insert(0, oldest);
    borders.push(history.said.len());
    let mut joined = Backwards::default();
    let mut told = Vec::new();
    for stretch in borders.windows(2).rev() {
        let mut assembler = Assembler::new(Lsn(stretch[0] as u64 * 10));
        for at in stretch[0]..stretch[1] {
            feed(&mut assembler, at, &history.said[at]);
        }
        joined.add(assembler.finish(Lsn(stretch[1] as u64 * 10)));
        told.extend(std::iter::from_fn(|| joined.next()));
    }
    told.extend(std::iter::from_fn(|| joined.next().or_else(|| joined.give_up(Lsn::INVALID))));
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_log_tells_what_transactions_did_however_the_wal_is_cut(
        steps in prop::collection::vec((0_u8..16, 0_usize..5, 0_u32..4, 0_u64..100), 0..200),
        cuts in prop::collection::btree_set(0_usize..200, 0..12),
        oldest in 0_usize..30,
        first_xid in prop_oneof![Just(3_u32), Just(u32::MAX - 20), Just(1 << 31)],
    ) {
        let mut history = History { next: first_xid, ..History::default() };
        for step in steps {
            history.step(step);
        }
        let oldest = oldest.min(history.said.len());
        let told = read(&history, &cuts, oldest);
        let lsns: Vec<Lsn> = told.iter().map(|end| end.lsn).collect();
        prop_assert!(lsns.is_sorted_by(|a, b| a > b), "newest first: {lsns:?}");
        let by_xid: BTreeMap<u32, &End> = told.iter().map(|end| (end.xid, end)).collect();
        for (xid, truth) in &history.ended {
            let Some(end) = by_xid.get(xid) else {
                // Its end lies in front of what was read.
                let is_end = |said: &Said| matches!(said, Said::Ended { xid: of, .. } if of == xid);
                let in_front = history.said[..oldest].iter().any(is_end);
                prop_assert!(in_front, "the end of {} was read and is not told", xid);
                continue;
            };
            let rows: Counted = end
                .deeds
                .rows()
                .iter()
                .map(|counted| (counted.file.relation, (counted.rows.inserted, counted.rows.deleted)))
                .collect();
            prop_assert_eq!(end.committed, truth.committed);
            if end.is_whole {
                prop_assert!(truth.first >= oldest, "{} is called whole and began before what was read", xid);
            }
            if truth.first >= oldest {
                prop_assert_eq!(&rows, &truth.rows, "{}", xid);
            } else {
                for (relation, (inserted, deleted)) in &rows {
                    let all = truth.rows.get(relation).copied().unwrap_or_default();
                    prop_assert!(*inserted <= all.0 && *deleted <= all.1, "never more than it did: {}", xid);
                }
            }
        }
    }
}
