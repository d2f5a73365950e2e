//! What the fuzz targets of the crate `highwater-repository` do with their input.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_repository::config::Config;
use highwater_repository::manifest::parse_line;
use highwater_repository::{
    ClusterRepository, Digest, EntryPath, ExtentReader, ExtentRef, Item, ManifestReader, PackId, Plain,
    Repository, RepositoryConfig, Run,
};
use highwater_storage::{Body, Error, ErrorKind, Key, Listing, Put, Result, Store};
use highwater_wal::SystemId;

/// A store in which every object has the same content.
#[derive(Debug)]
struct SameStore(Bytes);

#[async_trait]
impl Store for SameStore {
    async fn put_if_absent(&self, _: &Key, _: &Body) -> Result<Put> {
        Ok(Put::Exists)
    }

    async fn get(&self, _: &Key) -> Result<Bytes> {
        Ok(self.0.clone())
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let end = range.end.min(self.0.len() as u64);
        if range.start >= end {
            return Err(Error::new(ErrorKind::Invalid, "get", key.as_str(), "it ends before. hint: none"));
        }
        Ok(self.0.slice(range.start as usize..end as usize))
    }

    async fn size(&self, _: &Key) -> Result<u64> {
        Ok(self.0.len() as u64)
    }

    async fn list(&self, _: &str, _: Option<&str>, _: bool) -> Result<Listing> {
        Ok(Listing::default())
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        Ok(())
    }

    fn url(&self) -> String {
        "same".to_owned()
    }
}

fn with_cluster<T>(object: Vec<u8>, work: impl AsyncFnOnce(ClusterRepository) -> T) -> Option<T> {
    let store = Arc::new(SameStore(object.into()));
    let mut config = RepositoryConfig::from_url("same");
    config.threads = 1;
    let repository = Repository::with_store(store, &config).ok()?;
    let cluster = repository.cluster(&"main".parse().ok()?, SystemId(7));
    Some(tokio::runtime::Builder::new_current_thread().build().ok()?.block_on(work(cluster)))
}

/// A skippable frame with a text and its digest.
fn skippable(text: &str) -> Vec<u8> {
    let content = format!("{text}\n{}", Digest::of(text.as_bytes()));
    let mut frame = 0x184D_2A50_u32.to_le_bytes().to_vec();
    frame.extend((content.len() as u32).to_le_bytes());
    frame.extend(content.as_bytes());
    frame
}

/// An object of any bytes under every kind of name: no panic, and what is handed over is what it says.
pub fn objects(input: &[u8]) {
    with_cluster(input.to_vec(), async |cluster| {
        for name in ["00000002.history", "000000010000000000000001"] {
            let Ok(file) = name.parse() else { continue };
            let _ = cluster.wal_head(file).await;
            let _ = cluster.put_wal(file, b"other", None).await;
            if let Ok(object) = cluster.get_wal(file).await {
                assert_eq!(Plain::of(&object.bytes), object.head.plain);
            }
        }
        let _ = cluster.facts().await;
        let _ = cluster.repository().facts().await;
        let backups = cluster.backups();
        if let Ok(label) = "daily".parse() {
            let _ = backups.started(&label).await;
            let _ = backups.head(&label).await;
            let _ = ManifestReader::open(&backups, &label).await;
        }
    });
}

/// A frame of any bytes behind a good head, and as a pack: the first two bytes are the length that it should have.
pub fn frames(input: &[u8]) {
    let Some((length, frame)) = input.split_first_chunk() else { return };
    let length = u32::from(u16::from_le_bytes(*length));
    let digest = Digest::of(b"");
    let mut object = skippable(&format!(
        "{{\"version\":1,\"file\":\"00000002.history\",\"length\":{length},\"digest\":\"{digest}\",\
         \"archived\":{{\"host\":\"h\",\"time\":\"2026-01-31T23:59:59Z\",\"program\":\"p\"}}}}"
    ));
    object.extend_from_slice(frame);
    with_cluster(object, async |cluster| {
        let Ok(file) = "00000002.history".parse() else { return };
        if let Ok(object) = cluster.get_wal(file).await {
            assert!(object.bytes.is_empty() && length == 0, "only nothing has this digest");
        }
    });
    let extent = ExtentRef { pack: PackId::random(), offset: 0, stored: frame.len() as u32, length, digest };
    with_cluster(frame.to_vec(), async |cluster| {
        let Ok(fetched) = ExtentReader::new(&cluster.backups()).fetch(&[extent]).await else { return };
        let read = fetched.each(&mut Vec::new(), |_, _| Ok::<_, highwater_repository::Error>(()));
        assert!(read.is_err(), "an extent is never empty, and nothing else has this digest");
    });
}

/// A line of a manifest: no panic, and no path that leaves the folder.
pub fn manifest_lines(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        let Ok((item, runs)) = parse_line(line) else { continue };
        let path: Option<&EntryPath> = match &item {
            Item::Folder(folder) => Some(&folder.path),
            Item::Link(link) => Some(&link.path),
            Item::File(file) => Some(&file.path),
            Item::Runs(_) => None,
        };
        if let Some(path) = path {
            assert!(path.as_path().components().all(|part| matches!(part, std::path::Component::Normal(_))));
            assert_eq!(path.to_string().parse::<EntryPath>().ok().as_ref(), Some(path));
        }
        for run in runs {
            if let Run::Extents(extents) = run {
                assert!(
                    extents
                        .iter()
                        .all(|extent| extent.length > 0 && extent.offset.checked_add(1 << 30).is_some())
                );
            }
        }
    }
}

/// A configuration: no panic, and every refusal says what to do.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables = variables.split('\0').filter_map(|pair| pair.split_once('='));
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    if let Err(error) = Config::parse(text, "highwater.toml", variables) {
        assert!(error.to_string().contains("hint: "), "{error}");
    }
}
