//! R11: memory does not grow with the number of files.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use common::{Kind, Scratch};
use highwater_repository::manifest::{File, Totals};
use highwater_repository::{
    Digest, Entry, EntryPath, ExtentRef, Item, ManifestHead, ManifestReader, ManifestWriter, PackId,
    Repository, RepositoryConfig, Run,
};
use highwater_wal::{SystemId, Timestamp};

const FILES: u64 = 1_000_000;
/// What the whole test may use, the test program itself included.
const MAX_MEMORY_KIB: u64 = 64 << 10;

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn r11_a_million_files_are_written_and_read_within_bounds() {
    let scratch = Scratch::new(Kind::Lz4);
    // A folder, not memory, so that what is stored does not count.
    let config = RepositoryConfig::from_url(format!("file://{}/r", scratch.folder.path().display()));
    let (repository, _) = Repository::init(&config).await.unwrap();
    let backups = repository.cluster(&"main".parse().unwrap(), SystemId(7)).backups();
    let label = "many".parse().unwrap();
    let mut writer = ManifestWriter::new(&backups, &label).unwrap();
    let pack = PackId::random();
    for number in 0..FILES {
        let digest = Digest::of(&number.to_le_bytes());
        let extent = ExtentRef { pack, offset: number % 100_000 * 4000, stored: 4000, length: 8192, digest };
        let path = EntryPath::new(format!("base/{}/{number}", number % 97)).unwrap();
        let file = File { path, mode: 0o600, size: 8192, mtime: 0, crc32c: None };
        writer.add(&Entry::File(file, vec![Run::Extents(vec![extent])])).await.unwrap();
    }
    let head = ManifestHead {
        version: ManifestHead::VERSION,
        label: label.clone(),
        host: String::new(),
        program: String::new(),
        begun_at: Timestamp(0),
        finished_at: Timestamp(0),
        parent: None,
        totals: Totals::default(),
        parts: Vec::new(),
        postgres: None,
    };
    let head = writer.finish(head).await.unwrap();
    assert_eq!((head.totals.files, head.totals.bytes), (FILES, FILES * 8192));
    assert!(head.parts.len() > 2, "{} parts", head.parts.len());

    let mut reader = ManifestReader::open(&backups, &label).await.unwrap();
    let mut files = 0;
    while let Some(item) = reader.next().await.unwrap() {
        files += u64::from(matches!(item, Item::File(_)));
    }
    assert_eq!(files, FILES);
    let peak = peak_memory_kib();
    assert!(peak < MAX_MEMORY_KIB, "{peak} KiB");
}
