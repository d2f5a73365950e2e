//! How long it takes to archive a segment and to fetch it back, on this machine.
//!
//! `cargo run --release -p highwater-repository --example segment_speed -- FOLDER-OF-SEGMENTS SCRATCH-FOLDER [lz4|zstd] [encrypt]`
//!
//! Each segment is read, checked, compressed and put into a repository below the scratch folder, synced; then fetched,
//! verified and written into a file. `bench/` measures the commands themselves.

use std::fs;
use std::io::{Error, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater_repository::{ClusterRepository, Codec, KeyPair, Repository, RepositoryConfig};
use highwater_wal::{Check, SegmentKind, SegmentName, SegmentSize, SystemId, WalFile, check_segment};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [segments, scratch, options @ ..] = arguments.as_slice() else {
        return Err(
            Error::new(ErrorKind::InvalidInput, "name a folder of segments and a scratch folder").into()
        );
    };
    let scratch = Path::new(scratch);
    let mut config = RepositoryConfig::from_url(format!("file://{}", scratch.join("repository").display()));
    if options.iter().any(|option| option == "zstd") {
        config.compression = Codec::Zstd;
    }
    if options.iter().any(|option| option == "encrypt") {
        let pair = KeyPair::generate();
        let identity = scratch.join("identity.txt");
        pair.write_identity_file(&identity)?;
        config.encrypt_to.push(pair.recipient().to_owned());
        config.identity_file = Some(identity);
    }
    let (repository, _) = Repository::init(&config).await?;
    let cluster = repository.cluster(&"main".parse()?, SystemId(1));

    let mut archived = Vec::new();
    let mut fetched = Vec::new();
    for (path, name) in segments_in(Path::new(segments))? {
        archived.push(archive(&cluster, &path, name).await?);
        let file = scratch.join("fetched");
        fetched.push(fetch(&cluster, &file, name).await?);
        if !same(&file, &path)? {
            return Err(Error::other("what came back is not what went in").into());
        }
        fs::remove_file(&file)?;
    }
    println!("{} segments, {} threads", archived.len(), config.threads);
    println!("archive {:?}  fetch {:?}  (medians)", median(&mut archived), median(&mut fetched));
    println!("peak memory {}", peak_memory()?);
    Ok(())
}

fn segments_in(folder: &Path) -> Result<Vec<(PathBuf, SegmentName)>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok())
        {
            found.push((path, name));
        }
    }
    found.sort();
    Ok(found)
}

async fn archive(cluster: &ClusterRepository, path: &Path, name: SegmentName) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let bytes = fs::read(path)?;
    let size = SegmentSize::new(bytes.len() as u64)?;
    let repository = cluster.repository();
    let (summary, encoded) = std::thread::scope(|scope| {
        let check =
            scope.spawn(|| check_segment(name, size, None, &bytes, Check::Full, SegmentKind::Complete));
        let encoded = repository.encode_wal(&bytes);
        (check.join(), encoded)
    });
    let summary = summary.map_err(|_| Error::other("the check panicked"))??;
    cluster.put_encoded_wal(WalFile::Segment(name), encoded?, Some(summary), None).await?;
    Ok(begin.elapsed())
}

async fn fetch(cluster: &ClusterRepository, to: &Path, name: SegmentName) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let file = fs::File::create(to)?;
    cluster.get_wal_into(WalFile::Segment(name), &file).await?;
    Ok(begin.elapsed())
}

/// Whether two files are the same, read in small pieces so that the memory of the work itself can be seen.
fn same(one: &Path, other: &Path) -> std::io::Result<bool> {
    let mut pieces = [vec![0; 64 << 10], vec![0; 64 << 10]];
    let mut files = [fs::File::open(one)?, fs::File::open(other)?];
    loop {
        let mut lengths = [0; 2];
        for ((file, piece), length) in files.iter_mut().zip(&mut pieces).zip(&mut lengths) {
            *length = file.read(piece)?;
        }
        match lengths {
            [0, 0] => return Ok(true),
            [a, b] if a != b || pieces[0][..a] != pieces[1][..b] => return Ok(false),
            _ => {}
        }
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn peak_memory() -> std::io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("unknown").trim().to_owned())
}
