//! What the size of an extent costs: a backup of one data directory, then one of the same directory later, with extents of
//! several sizes.
//!
//! `cargo run --release -p highwater-basebackup --example extent_size -- BEFORE AFTER`
//!
//! BEFORE and AFTER are copies of a data directory (`cp -a`, with the server stopped). A short extent makes long manifests and
//! compresses less; a long one is stored anew for one changed page. The table is in `docs/FORMAT.md`.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use highwater_repository::manifest::File;
use highwater_repository::{
    Compression, Digest, Entry, EntryPath, ExtentCompressor, ExtentRef, ManifestHead, ManifestWriter, PackId,
    Repository, RepositoryConfig, Run,
};
use highwater_wal::{SystemId, Timestamp};

type Failure = Box<dyn Error>;
/// For each file, where its extents lie.
type Known = HashMap<PathBuf, Vec<ExtentRef>>;

const SIZES_KB: [usize; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];

struct Measured {
    files_bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    manifest_bytes: u64,
    seconds: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [before, after] = arguments.as_slice() else {
        return Err("name two copies of a data directory".into());
    };
    println!(
        "| extent | first backup, stored | of it manifest | second backup, stored | of it manifest | seconds, one thread |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for size_kb in SIZES_KB {
        let mut known = Known::new();
        let first = measure(before, size_kb << 10, &mut known).await?;
        let second = measure(after, size_kb << 10, &mut known).await?;
        println!(
            "| {size_kb} KiB | {} ({:.2}×) | {} | {} ({} of extents) | {} | {:.1} |",
            mib(first.stored_bytes + first.manifest_bytes),
            first.files_bytes as f64 / first.stored_bytes as f64,
            mib(first.manifest_bytes),
            mib(second.stored_bytes + second.manifest_bytes),
            mib(second.new_bytes),
            mib(second.manifest_bytes),
            first.seconds,
        );
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Backs up the relation files of `data`, and leaves in `known` where their extents lie.
async fn measure(data: &Path, size: usize, known: &mut Known) -> Result<Measured, Failure> {
    let scratch = tempfile::tempdir()?;
    let url = format!("file://{}/repository", scratch.path().display());
    let (repository, _) = Repository::init(&RepositoryConfig::from_url(url)).await?;
    let backups = repository.cluster(&"main".parse()?, SystemId(1)).backups();
    let label = "measured".parse()?;
    let mut manifest = ManifestWriter::new(&backups, &label)?;
    let mut compressor = ExtentCompressor::new(&Compression::default())?;
    let mut measured =
        Measured { files_bytes: 0, new_bytes: 0, stored_bytes: 0, manifest_bytes: 0, seconds: 0.0 };
    let pack = PackId::random();
    let begun = Instant::now();
    for path in relation_files(data)? {
        let content = fs::read(data.join(&path))?;
        let old = known.remove(&path).unwrap_or_default();
        let mut runs = Vec::new();
        let mut extents = Vec::new();
        for (number, plain) in content.chunks(size).enumerate() {
            let digest = Digest::of(plain);
            let extent = match old.get(number).filter(|extent| extent.digest == digest) {
                Some(extent) => *extent,
                None => {
                    let frame = compressor.compress_digested(plain, digest)?.frame;
                    let (offset, stored) = (measured.stored_bytes, frame.len() as u32);
                    measured.new_bytes += plain.len() as u64;
                    measured.stored_bytes += u64::from(stored);
                    ExtentRef { pack, offset, stored, length: plain.len() as u32, digest }
                }
            };
            Run::push(&mut runs, extent);
            extents.push(extent);
        }
        let entry_path = EntryPath::new(path.as_os_str().as_bytes())?;
        let file =
            File { path: entry_path, mode: 0o600, size: content.len() as u64, mtime: 0, crc32c: Some(0) };
        manifest.add(&Entry::File(file, runs)).await?;
        measured.files_bytes += content.len() as u64;
        known.insert(path, extents);
    }
    measured.seconds = begun.elapsed().as_secs_f64();
    let head = ManifestHead {
        version: ManifestHead::VERSION,
        label: label.clone(),
        host: String::new(),
        program: String::new(),
        begun_at: Timestamp(0),
        finished_at: Timestamp(0),
        parent: None,
        totals: Default::default(),
        parts: Vec::new(),
        postgres: None,
    };
    manifest.finish(head).await?;
    let listing = repository.store().list(&backups.section().backups(), None, false).await?;
    measured.manifest_bytes = listing.entries.iter().map(|entry| entry.size).sum();
    Ok(measured)
}

/// The relation files below `base/`, in order.
fn relation_files(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for database in fs::read_dir(data.join("base"))? {
        for file in fs::read_dir(database?.path())? {
            let file = file?;
            if file.file_name().as_bytes().first().is_some_and(u8::is_ascii_digit)
                && file.metadata()?.len() > 0
            {
                files.push(file.path().strip_prefix(data)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}
