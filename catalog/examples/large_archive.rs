//! Makes a large archive to measure with: `large_archive FOLDER SEGMENTS [SEGMENTS BETWEEN TWO BACKUPS]`.
//!
//! Prints requests for `highwater plan`, one a line: a few words that say what it is, a tab, the arguments.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it is part of the measuring, no program for users"
)]

#[path = "../tests/large/archive.rs"]
mod archive;

use std::path::PathBuf;

use archive::Archive;
use highwater_wal::SegmentSize;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder"));
    let mut number =
        |otherwise: &str| arguments.next().unwrap_or(otherwise.to_owned()).parse::<u64>().unwrap();
    let (segments, backup_every) = (number("1000000"), number("10000"));
    let archive = Archive::new(&folder, segments, SegmentSize::DEFAULT, backup_every);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(archive.make());
    let [first, second, third] = &archive.stretches;
    let time = |stretch: &archive::Stretch| {
        let time = archive::time_of(archive.middle(stretch)).0 + 4_000_000;
        highwater_wal::Timestamp(time).to_string()
    };
    let xid = archive::xid_of(archive.middle(first)) + archive::COMMITS[2].1;
    for (what, arguments) in [
        ("latest", "--latest".to_owned()),
        ("newest backup", "--immediate".to_owned()),
        ("time on timeline 1", format!("--at {}", time(first))),
        ("time on timeline 2", format!("--at {}", time(second))),
        ("time on timeline 3", format!("--timeline 3 --at {}", time(third))),
        ("transaction", format!("--xid {xid}")),
        ("restore point", format!("--name {}", archive::POINT)),
        ("end of timeline 1", "--timeline 1 --latest".to_owned()),
    ] {
        println!("{what}\t{arguments}");
    }
}
