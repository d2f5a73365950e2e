//! Memory, measured in a process of its own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the right answer")]
#![allow(dead_code, reason = "not every test uses all that they have in common")]

mod common;

use std::fs;
use std::io::Write;

use common::Setting;
use highwater_tests::{Postgres, give_to_server_account};

/// The most that a backup may take.
const LIMIT_KB: u64 = 128 << 10;
const FILES: usize = 100_000;
const LARGE_BYTES: usize = 600 << 20;

/// The most memory that this process has ever had.
fn peak_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The server sends whatever lies in its data directory.
#[tokio::test(flavor = "multi_thread")]
async fn r11_a_hundred_thousand_files_and_a_large_one_take_no_more_memory_than_a_small_cluster() {
    let keys = highwater_repository::KeyPair::generate();
    let site = highwater_tests::Site::on_folder()
        .repository_line(&format!("encrypt-to = [\"{}\"]", keys.recipient()));
    let setting = Setting::on(site, Postgres::builder().without_checksums()).await;
    let many = setting.server.data_dir().join("many");
    fs::create_dir(&many).unwrap();
    give_to_server_account(&many);
    for number in 0..FILES {
        let path = many.join(format!("{number:08}"));
        fs::write(&path, format!("file number {number}\n")).unwrap();
        give_to_server_account(&path);
    }
    let large = setting.server.data_dir().join("base/1/4000000");
    let mut file = fs::File::create(&large).unwrap();
    give_to_server_account(&large);
    let mut state = 1u64;
    for _ in 0..LARGE_BYTES >> 20 {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40).to_le_bytes()
        };
        let piece: Vec<u8> = (0..1 << 17).flat_map(|_| next()).collect();
        file.write_all(&piece).unwrap();
    }
    drop(file);

    let identity = setting.site.path("identity");
    keys.write_identity_file(&identity).unwrap();
    let mut config = setting.repository.config().clone();
    config.identity_file = Some(identity);
    let repository = highwater_repository::Repository::open(&config).await.unwrap();
    let setting = Setting { repository, ..setting };
    let first = setting.back_up(|options| options.label = Some("first".parse().unwrap())).await.unwrap();
    assert!(first.files > FILES as u64 && first.bytes > LARGE_BYTES as u64, "{first:?}");
    let after_first = peak_kb();
    let second = setting.back_up(|options| options.label = Some("second".parse().unwrap())).await.unwrap();
    assert!(second.reused_bytes > LARGE_BYTES as u64, "{second:?}");
    println!("{after_first} kB, with a parent {} kB", peak_kb());
    assert!(peak_kb() < LIMIT_KB, "{} kB", peak_kb());
}
