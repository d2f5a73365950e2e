//! A running server's own WAL, read to the last byte that it has written.

use std::fs;

use highwater_tests::Postgres;
use highwater_wal::{Lsn, RawRecord, Records, SegmentName, SegmentSize};

/// The segments are small, so that records run over their borders, and stay in `pg_wal`.
pub fn builder(version: u32) -> highwater_tests::postgres::Builder {
    let builder = Postgres::builder().version(version).wal_segment_size_mb(1);
    builder.setting("wal_keep_size", "4GB").setting("max_wal_size", "8GB").setting("checkpoint_timeout", "1h")
}

/// The LSN behind what the server has written, all of it flushed.
pub fn position(server: &Postgres) -> Lsn {
    // A commit is flushed, and everything before it.
    server.value("select txid_current()");
    server.value("select pg_current_wal_flush_lsn()").parse().unwrap()
}

/// The oldest segment that the server still has.
pub fn oldest_segment(server: &Postgres) -> SegmentName {
    let files = server.column("select name from pg_ls_waldir() order by name");
    files.iter().find_map(|file| file.parse().ok()).unwrap()
}

/// Calls `each` with every record from the first segment that is there up to `end`.
pub fn read(server: &Postgres, end: Lsn, mut each: impl FnMut(&RawRecord<'_>)) {
    let size = SegmentSize::new(1 << 20).unwrap();
    let mut records = Records::new(size, None);
    let mut name = oldest_segment(server);
    while name.start(size) < end {
        let bytes = fs::read(server.data_dir().join("pg_wal").join(name.to_string())).unwrap();
        // What lies behind the end is old.
        let length = end.bytes_since(name.start(size)).min(size.bytes()) as usize;
        records.push_segment(name, bytes[..length].to_vec()).unwrap();
        while let Some(record) = records.next_raw() {
            each(&record.unwrap());
        }
        name = name.next(size);
    }
}
