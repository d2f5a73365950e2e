//! A large archive: what is asked of the store, and that an index changes no answer.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod archive;
mod index;
mod requests;

use std::sync::Arc;

use archive::Archive;
use highwater_catalog::{Catalog, Request, Target};
use highwater_repository::{Repository, RepositoryConfig};
use highwater_storage::faults::FaultStore;
use highwater_wal::{Lsn, SegmentSize, Timestamp};

/// A made archive, and the store below, which counts.
struct Site {
    archive: Archive,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn new(segments: u64, backup_every: u64) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let archive =
            Archive::new(&folder.path().join("repository"), segments, SegmentSize::DEFAULT, backup_every);
        archive.make().await;
        Site { archive, _folder: folder }
    }

    /// The catalog, and what counts the calls that it makes.
    async fn open(&self) -> (Catalog, Arc<FaultStore>) {
        self.open_with(&self.archive.config()).await
    }

    async fn open_with(&self, config: &RepositoryConfig) -> (Catalog, Arc<FaultStore>) {
        let store = highwater_storage::open(&config.store).unwrap();
        let store = Arc::new(FaultStore::new(store, 0, []));
        let repository = Repository::with_store(store.clone(), config).unwrap();
        repository.facts().await.unwrap();
        (Catalog::open(self.archive.cluster(&repository)).await.unwrap(), store)
    }

    /// Requests of every kind, and what they are for.
    fn requests(&self) -> Vec<(&'static str, Request)> {
        let [first, second, third] = &self.archive.stretches;
        let at = |stretch: &archive::Stretch, second: i64| {
            let time = archive::time_of(self.archive.middle(stretch));
            Target::Time(Timestamp(time.0 + second * 1_000_000))
        };
        let lsn = Lsn(self.archive.middle(second) * self.archive.size.bytes() + 0x30);
        let on = |timeline: u32, target| Request {
            timeline: highwater_wal::TimelineId::new(timeline),
            ..Request::new(target)
        };
        vec![
            ("the latest", Request::new(Target::Latest)),
            ("the newest backup", Request::new(Target::Immediate)),
            ("a time on timeline 1", Request::new(at(first, 4))),
            ("a time on timeline 2", Request::new(at(second, 5))),
            ("a time on timeline 3", on(3, at(third, 4))),
            ("a position", Request::new(Target::Lsn(lsn))),
            ("a transaction", Request::new(Target::Xid(archive::xid_of(self.archive.middle(first)) + 2))),
            ("a transaction that is nowhere", Request::new(Target::Xid(3))),
            ("a restore point", Request::new(Target::Name(archive::POINT.to_owned()))),
            ("a restore point that is nowhere", Request::new(Target::Name("nowhere".to_owned()))),
            ("a time behind everything", on(3, Target::Time(Timestamp(i64::MAX)))),
            ("timeline 1 to its end", on(1, Target::Latest)),
        ]
    }
}
