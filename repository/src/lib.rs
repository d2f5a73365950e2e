//! The repository: what its objects are called, how they are made, and how they are read back and verified.
//!
//! It knows the format of everything that is stored, and nothing of how PostgreSQL is spoken to. It never replaces an
//! object (R2), never hands over bytes whose digest it has not compared (R7), and holds no state of its own: whatever it
//! knows lies in the store. `docs/FORMAT.md` describes the format for other readers.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`] | `highwater.toml` and the environment |
//! | [`keys`], `names` | the names of objects, and what may be part of one |
//! | `repository`, `cluster` | a repository, and the part of it that belongs to one cluster |
//! | `init`, `facts` | making a repository; what repository and cluster say of themselves |
//! | `wal_object`, `wal_plain` | segments, histories and backup labels (R3, R7); what of them is told without an identity |
//! | `tail` | pieces of segments that are still being written |
//! | `reached` | marks of how far a timeline's WAL was there |
//! | `index` | the heads of all segments of a log in one object |
//! | `cache` | a folder on this machine with copies of objects, or of their beginnings |
//! | `backups` | which backups there are |
//! | `relation_names` | which table a number in the WAL means |
//! | `retention` | marks, holds and claims in a backup's folder; removing one (R20) |
//! | [`pack`] | extents and the packs that hold them |
//! | [`manifest`] | the list of a backup's files, as a stream (R11, R16) |
//! | `proof` | reading that leaves nothing unproven: each byte of an object, not only those that are needed |
//! | `events`, `found_damage`, `damaged_wal` | the audit trail, and what verifications have found, out of it |
//! | [`marker`] | the file that keeps a clone from archiving (R5) |
//! | `envelope`, `codec`, `crypt`, `digest` | small objects; compression; encryption; BLAKE3 |
//!
//! ```
//! use highwater_repository::{Repository, RepositoryConfig, Stored};
//! use highwater_wal::{SegmentSize, SystemId};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # let folder = tempfile::tempdir()?;
//! # let url = format!("file://{}/repository", folder.path().display());
//! # runtime.block_on(async {
//! let (repository, made) = Repository::init(&RepositoryConfig::from_url(&url)).await?;
//! assert!(made.is_new);
//! let cluster = repository.cluster(&"main".parse()?, SystemId(7301927410293));
//! cluster.register(SegmentSize::DEFAULT, 15).await?;
//!
//! let history = "00000002.history".parse()?;
//! let content = b"1\t0/3000060\tno recovery target specified\n";
//! assert_eq!(cluster.put_wal(history, content, None).await?, Stored::Created);
//! assert_eq!(cluster.put_wal(history, content, None).await?, Stored::AlreadySame);
//! assert!(cluster.put_wal(history, b"something else", None).await.is_err());
//! assert_eq!(cluster.get_wal(history).await?.bytes, content);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backups;
mod cache;
mod cluster;
mod codec;
pub mod config;
mod crypt;
mod damaged_wal;
mod digest;
mod envelope;
mod error;
mod events;
mod facts;
mod found_damage;
mod index;
mod init;
pub mod keys;
pub mod manifest;
pub mod marker;
mod names;
pub mod pack;
mod proof;
mod reached;
mod relation_names;
mod repository;
mod retention;
mod tail;
mod wal_object;
mod wal_plain;

pub use backups::{Backups, ListedBackup, Started};
pub use cluster::ClusterRepository;
pub use codec::{Codec, Compression, Content, FileContent, MemorySink, Sink};
pub use config::{ClusterConfig, Config, RepositoryConfig, RetentionConfig, Secret};
pub use damaged_wal::DamagedWal;
pub use digest::{Digest, Plain};
pub use error::{Different, Error, Result};
pub use events::{Event, Outcome};
pub use facts::{ClusterFacts, FORMAT, RepositoryFacts, host_name};
pub use found_damage::{
    BackupDamage, FoundDamage, JudgedBackup, LastVerification, MOST_EVENTS, VERIFY, label_of_backup,
};
pub use index::{Indexed, LogEdge, LogHead, LogHeads, LogIndex, LogSummary};
pub use init::{Initialised, KeyPair, PASSPHRASE_WORK_FACTOR};
pub use manifest::{Entry, EntryPath, Item, ManifestHead, ManifestReader, ManifestWriter, Run};
pub use marker::Marker;
pub use names::{ClusterName, EventId, Label, PackId, RepositoryId};
pub use pack::{
    CompressedExtent, ExtentCompressor, ExtentReader, ExtentRef, FetchedExtents, PackLimits, PackPage,
    PackTotals, PackWriter, StoredPack,
};
pub use proof::WholePack;
pub use relation_names::{
    DatabaseNames, MAX_RELATIONS, NamesHead, NamesId, NamesItem, NamesReader, NamesTaken, NamesWriter,
    RelationName,
};
pub use repository::Repository;
pub use retention::{Claim, Expired, Hold};
pub use tail::{EncodedTail, Strip, StripId, Tail, TailHead, TailPiece, TailPlace, TailSegment};
pub use wal_object::{Archived, EncodedWal, MAX_SMALL_FILE_BYTES, Stored, WalHead, WalObject, WalPage};
