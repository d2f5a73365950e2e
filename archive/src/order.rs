//! What to begin with next, decided from what PostgreSQL has marked as ready and what is known of each file.
//!
//! PostgreSQL archives histories first, then everything in order of names (`pgarch_readyXlog`, `ready_file_comparator`,
//! `pgarch.c`, PostgreSQL 15). Nothing here comes before what PostgreSQL would have archived earlier.

use highwater_wal::{SegmentName, TimelineId, WalFile};

/// What is known of a file that is marked as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    New,
    /// It is on its way.
    Running,
    /// It is durable, and no call has asked for it.
    Durable,
    /// A call was told that it is durable: PostgreSQL is about to mark it as done.
    Told,
    /// It could not be put. A call is told why by doing it itself.
    Failed,
}

/// A file to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The file.
    pub file: WalFile,
    /// The file on its way that must be durable before this one.
    pub after: Option<WalFile>,
}

/// Puts files into the order in which PostgreSQL archives them.
pub fn sort(files: &mut Vec<WalFile>) {
    files.sort_unstable_by_key(|file| key(*file));
    files.dedup();
}

/// Sorts as the names do, behind all histories: a segment, the labels of backups that start in it, its partial form.
fn key(file: WalFile) -> (Option<SegmentName>, TimelineId, u8, u32) {
    match file {
        WalFile::History(timeline) => (None, timeline, 0, 0),
        WalFile::Segment(segment) => (Some(segment), segment.timeline, 0, 0),
        WalFile::BackupLabel { segment, offset } => (Some(segment), segment.timeline, 1, offset),
        WalFile::Partial(segment) => (Some(segment), segment.timeline, 2, 0),
    }
}

fn is_history(file: WalFile) -> bool {
    matches!(file, WalFile::History(_))
}

/// The files to begin with, of `ready` in PostgreSQL's order: at most `free`, with at most `most_ahead` durable or on their way
/// that nobody has asked for.
pub fn next(
    ready: &[WalFile],
    known: impl Fn(WalFile) -> Known,
    mut free: usize,
    most_ahead: usize,
) -> Vec<Step> {
    let (mut steps, mut after, mut ahead) = (Vec::new(), None, 0);
    let mut histories_are_done = true;
    for &file in ready {
        // What follows a timeline's beginning waits until that can be read by everybody.
        if !is_history(file) && !histories_are_done {
            break;
        }
        match known(file) {
            Known::Told => continue,
            Known::Durable => ahead += 1,
            Known::Running => {
                ahead += 1;
                after = Some(file);
                histories_are_done &= !is_history(file);
            }
            Known::Failed => break,
            Known::New if free == 0 || ahead >= most_ahead => break,
            Known::New => {
                steps.push(Step { file, after });
                (free, ahead) = (free - 1, ahead + 1);
                after = Some(file);
                histories_are_done &= !is_history(file);
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use Known::{Durable, Failed, New, Running, Told};

    fn file(name: &str) -> WalFile {
        name.parse().unwrap()
    }

    fn segment(number: u32) -> WalFile {
        file(&format!("0000000100000000{number:08X}"))
    }

    /// What is begun with of segments 0, 1, 2, … that are known so: each with the one it waits for.
    fn begun(known: &[Known], free: usize, most_ahead: usize) -> Vec<(u32, Option<u32>)> {
        let ready: Vec<WalFile> = (0..known.len() as u32).map(segment).collect();
        let number = |file: WalFile| ready.iter().position(|other| *other == file).unwrap();
        let steps = next(&ready, |file| known[number(file)], free, most_ahead);
        let number = |file| number(file) as u32;
        steps.into_iter().map(|step| (number(step.file), step.after.map(number))).collect()
    }

    #[test]
    fn each_waits_for_the_one_before_it() {
        for (known, free, expected) in [
            (&[New, New, New][..], 2, vec![(0, None), (1, Some(0))]),
            (&[New, New], 0, vec![]),
            (&[Running, New, New], 2, vec![(1, Some(0)), (2, Some(1))]),
            (&[Durable, New], 2, vec![(1, None)]),
            (&[Running, Durable, New], 2, vec![(2, Some(0))]),
            (&[Told, Told, New], 2, vec![(2, None)]),
            (&[Failed, New], 2, vec![]),
            (&[Running, Failed, New], 2, vec![]),
        ] {
            assert_eq!(begun(known, free, 64), expected, "{known:?}");
        }
    }

    #[test]
    fn it_does_not_run_away_from_postgresql() {
        assert_eq!(begun(&[Durable, Durable, New], 4, 2), []);
        assert_eq!(begun(&[Durable, Running, New, New], 4, 3), [(2, Some(1))]);
        assert_eq!(begun(&[Told, Told, Durable, New], 4, 2), [(3, None)]);
    }

    #[test]
    fn histories_come_first_and_alone() {
        let mut ready =
            vec![segment(7), file("00000002.history"), file("00000003.history"), segment(3), segment(7)];
        sort(&mut ready);
        assert_eq!(ready, [file("00000002.history"), file("00000003.history"), segment(3), segment(7)]);
        let steps = next(&ready, |_| New, 9, 64);
        let names = |steps: Vec<Step>| steps.iter().map(|step| step.file.to_string()).collect::<Vec<_>>();
        assert_eq!(names(steps), ["00000002.history", "00000003.history"]);
        let running = |file| if is_history(file) { Running } else { New };
        assert_eq!(next(&ready, running, 9, 64), []);
        let failed = |file| if is_history(file) { Failed } else { New };
        assert_eq!(next(&ready, failed, 9, 64), []);
        let durable = |file| if is_history(file) { Durable } else { New };
        assert_eq!(next(&ready, durable, 9, 64).len(), 2);
    }

    #[test]
    fn what_belongs_to_a_segment_comes_behind_it() {
        let label = file("000000010000000000000003.00000028.backup");
        let partial = file("000000010000000000000004.partial");
        let mut ready = vec![partial, label, segment(4), segment(3)];
        sort(&mut ready);
        assert_eq!(ready, [segment(3), label, segment(4), partial]);
    }
}
