//! What `pg_waldump --stats` prints, in short: number and size of records and full-page images by resource manager.
//!
//! `stats SEGMENT…` takes the segments of one cluster in the order of the WAL; `stats --changes SEGMENT…` counts what the
//! records did to rows instead, and the names in them, as a log of what happened does; `stats --check SEGMENT…` checks each
//! as before archiving, and prints the number of records. All end with the time it took.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use highwater_wal::{
    CatalogRow, CatalogRows, Change, Check, RawRecord, Records, SegmentKind, SegmentName, SegmentSize,
    check_segment, rmgr,
};

/// What is read from a file at a time, in bytes: small enough to stay in the processor's cache.
const PIECE_LENGTH: usize = 64 << 10;

#[derive(Default, Clone, Copy)]
struct Sum {
    records: u64,
    record_bytes: u64,
    image_bytes: u64,
}

fn main() -> ExitCode {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let option = paths.first().filter(|first| first.starts_with("--")).cloned();
    if option.is_some() {
        paths.remove(0);
    }
    let begun = Instant::now();
    let done = match option.as_deref() {
        None => stats(&paths),
        Some("--changes") => changes(&paths),
        Some("--check") => check_all(&paths),
        Some(other) => Err(format!("{other} is not known; hint: --changes or --check").into()),
    };
    match done {
        Ok(bytes) => {
            let seconds = begun.elapsed().as_secs_f64();
            println!("{bytes} bytes in {:.1} ms: {:.0} MB/s", seconds * 1e3, bytes as f64 / seconds / 1e6);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("stats: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A segment's name and the file, opened.
fn open(path: &str) -> Result<(SegmentName, File), Box<dyn Error>> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    let file = File::open(path).map_err(|error| format!("{path}: {error}; hint: name segments of pg_wal"))?;
    Ok((name.parse()?, file))
}

fn check_all(paths: &[String]) -> Result<u64, Box<dyn Error>> {
    let (mut length, mut records) = (0, 0);
    let mut bytes = Vec::new();
    for path in paths {
        let (name, mut file) = open(path)?;
        bytes.clear();
        length += file.read_to_end(&mut bytes)? as u64;
        let size = SegmentSize::new(bytes.len() as u64)?;
        records += check_segment(name, size, None, &bytes, Check::Full, SegmentKind::Complete)?.records;
    }
    println!("{records} records");
    Ok(length)
}

/// Calls `each` with every record, and answers with the length of the WAL.
fn read(paths: &[String], mut each: impl FnMut(&RawRecord<'_>)) -> Result<u64, Box<dyn Error>> {
    let mut length = 0;
    let mut records = None;
    for path in paths {
        let (name, mut file) = open(path)?;
        let size = SegmentSize::new(file.metadata()?.len())?;
        let records = records.get_or_insert_with(|| Records::new(size, None));
        let mut lsn = name.start(size);
        while lsn < name.end(size) {
            // Segments have whole MiB.
            let mut piece = vec![0; PIECE_LENGTH];
            file.read_exact(&mut piece)?;
            records.push(name.timeline, lsn, piece)?;
            lsn = lsn + PIECE_LENGTH as u64;
            while let Some(record) = records.next_raw() {
                each(&record?);
            }
        }
        length += size.bytes();
    }
    Ok(length)
}

fn stats(paths: &[String]) -> Result<u64, Box<dyn Error>> {
    let mut sums = [Sum::default(); 256];
    let length = read(paths, |record| {
        let images = record.parts().map_or(0, |parts| parts.image_length()) as u64;
        let sum = &mut sums[usize::from(record.header.rmgr)];
        sum.records += 1;
        sum.image_bytes += images;
        sum.record_bytes += u64::from(record.header.length) - images;
    })?;
    print(&sums);
    Ok(length)
}

fn changes(paths: &[String]) -> Result<u64, Box<dyn Error>> {
    let (mut rows, mut others, mut names, mut untold) = ([0_u64; 3], 0_u64, 0_u64, 0_u64);
    let mut catalogs = CatalogRows::default();
    let length = read(paths, |record| {
        let told = record.changes(|change| match change {
            Change::Rows { inserted, updated, deleted, .. } => {
                let counts = [inserted, updated, deleted];
                rows.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
            }
            _ => others += 1,
        });
        untold += u64::from(told.is_none());
        catalogs.feed(record, |row| match row {
            CatalogRow::Untold(_) => untold += 1,
            CatalogRow::Class(_) | CatalogRow::Namespace(_) => names += 1,
        });
    })?;
    let [inserted, updated, deleted] = rows;
    println!("rows: {inserted} inserted, {updated} updated, {deleted} deleted; {others} other changes");
    println!("names: {names}; {untold} that could not be told");
    Ok(length)
}

fn print(sums: &[Sum; 256]) {
    let mut total = Sum::default();
    let by_name: BTreeMap<_, _> = (0..=255).zip(sums).filter(|(_, sum)| sum.records > 0).collect();
    println!("{:<20} {:>10} {:>14} {:>14}", "resource manager", "records", "record bytes", "image bytes");
    for (number, sum) in by_name {
        let name = rmgr::name(number);
        println!("{name:<20} {:>10} {:>14} {:>14}", sum.records, sum.record_bytes, sum.image_bytes);
        total.records += sum.records;
        total.record_bytes += sum.record_bytes;
        total.image_bytes += sum.image_bytes;
    }
    println!("{:<20} {:>10} {:>14} {:>14}", "total", total.records, total.record_bytes, total.image_bytes);
}
