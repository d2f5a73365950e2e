//! Nothing asks more of the store than it must.

use std::ops::ControlFlow;

use highwater_catalog::{LogFilter, LogItem, LogLine, LogProgress, LogQuery, LogSink};
use highwater_storage::faults::{FaultStore, Operation};

use super::{Site, archive};

/// Twenty thousand segments: 78 logs, 76 of them whole on one timeline.
const SEGMENTS: u64 = 20_000;
const BACKUP_EVERY: u64 = 1000;
/// Names in a page of a listing.
const PAGE: u64 = 1000;

/// Listings and readings so far.
fn calls(store: &FaultStore) -> (u64, u64) {
    let reads = [Operation::Get, Operation::GetRange, Operation::Size];
    let reads = reads.into_iter().map(|operation| store.calls(operation, "")).sum();
    (store.calls(Operation::List, ""), reads)
}

#[tokio::test]
async fn questions_of_a_large_archive_list_and_read_little() {
    let site = Site::new(SEGMENTS, BACKUP_EVERY).await;
    let (mut maker, store) = site.open().await;
    assert!(calls(&store).0 > SEGMENTS / PAGE, "without an index every segment is listed");
    let logs = maker.unindexed_logs() as u64;
    assert!((70..=78).contains(&logs), "{logs}");
    maker.index_logs(usize::MAX, |_| {}).await.unwrap();
    drop(maker);

    // One listing each for the index, the timelines, the backups, the system identifiers, the tail, the marks of ends; two for each timeline: what lies before and
    // behind the logs that are indexed.
    const LISTINGS: u64 = 6 + 3 * 2;
    let (catalog, store) = site.open().await;
    let backups = catalog.inventory().backups.len() as u64;
    assert_eq!(backups, SEGMENTS / BACKUP_EVERY);
    let (listings, reads) = calls(&store);
    assert!(listings <= LISTINGS, "{listings}");
    // Beside the backups: what the repository and the cluster say of themselves, two histories.
    let reads_to_open = backups + 4;
    assert!(reads <= reads_to_open, "{reads}");

    // The segments that lie in no whole log: two logs are cut in two by each fork, and the last has just begun. They are read one
    // by one, where a question leads there; the beginning and the end of the others tells all of them.
    let cut = 5 * site.archive.size.segments_per_log();
    // The records of a few segments, each with the one behind it, and two whole index objects.
    const RECORDS: u64 = 12;

    let (mut catalog, store) = site.open().await;
    catalog.windows().await.unwrap();
    let (listings, reads) = calls(&store);
    // A window promises its segments, so each of them was seen in a listing, once; stretches of logs are listed side by side.
    let stretches = logs.div_ceil(64) + 3;
    assert!(listings <= LISTINGS + SEGMENTS / PAGE + stretches, "{listings}");
    assert!(
        reads <= reads_to_open + 3 * 64 + RECORDS,
        "windows looks at the last segments of each path: {reads}"
    );

    for (what, request) in site.requests() {
        let (mut catalog, store) = site.open().await;
        let plan = catalog.plan(&request).await;
        let (listings, reads) = calls(&store);
        // What a plan needs was seen in a listing (R12); the logs cut by forks were when the catalog was opened. The events tell what
        // verifications have found.
        let proof = plan.as_ref().map_or(0, |plan| plan.segments / PAGE + 2 + 1);
        assert!(listings <= LISTINGS + proof, "{what}: {listings} listings");
        let is_search = what.contains("transaction") || what.contains("restore point");
        let most = if is_search { logs + cut } else { logs + 4 * 64 };
        assert!(reads <= reads_to_open + most + RECORDS, "{what}: {reads} readings");
        assert!(plan.is_ok() || what.contains("nowhere") || what.contains("behind everything"), "{what}");
    }
}

/// Takes what the log tells, and counts.
#[derive(Default)]
struct Told {
    lines: Vec<LogLine>,
}

impl LogSink for Told {
    fn item(&mut self, item: LogItem) -> ControlFlow<()> {
        if let LogItem::Line(line) = item {
            self.lines.push(*line);
        }
        ControlFlow::Continue(())
    }

    fn progress(&mut self, _: &LogProgress) {}
}

#[tokio::test]
async fn one_drop_in_a_large_archive_is_found_by_summaries() {
    let site = Site::new(SEGMENTS, BACKUP_EVERY).await;
    let (mut maker, _) = site.open().await;
    maker.index_logs(usize::MAX, |_| {}).await.unwrap();
    drop(maker);

    let (mut catalog, store) = site.open().await;
    let (listings, reads) = calls(&store);
    let query = LogQuery { filter: LogFilter { drops: true, ..LogFilter::default() }, timeline: None };
    let mut told = Told::default();
    let report = catalog.what_happened(&query, &mut told).await.unwrap();
    let made = &site.archive;
    let xids: Vec<u32> = told.lines.iter().map(|line| line.xid).collect();
    assert_eq!(xids, [archive::xid_of(made.middle(&made.stretches[1])) + archive::DROP]);

    assert_eq!((report.damaged, report.holes), (0, 0));
    let told =
        report.notes.iter().filter(|note| note.contains("segments that were archived by an earlier version"));
    assert_eq!(
        told.count(),
        1,
        "nothing is read for what summaries of version 2 do not tell: {:?}",
        report.notes
    );

    // What was dropped is looked for in the WAL since the checkpoint before.
    const CHECKPOINT_EVERY: u64 = 20;
    assert!(report.progress.segments_read <= 2, "{:?}", report.progress);
    assert!(
        report.progress.bytes_read <= (2 + CHECKPOINT_EVERY) * made.size.bytes(),
        "{:?}",
        report.progress
    );
    let (more_listings, more_reads) = calls(&store);
    let cut = 5 * made.size.segments_per_log();
    let logs = SEGMENTS / made.size.segments_per_log();
    assert!(more_reads - reads <= logs + cut + 2 + CHECKPOINT_EVERY, "{}", more_reads - reads);
    assert!(more_listings - listings <= 2, "{}", more_listings - listings);
}
