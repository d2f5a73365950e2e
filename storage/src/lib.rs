//! Object stores: a local folder, S3.
//!
//! One small trait, [`Store`], whose contract is in words: put-if-absent, get, ranged get, size, list by prefix,
//! delete. [`open()`] makes one from a URL and settings.
//!
//! This crate never looks into what it stores, never replaces an object (R2), and never says "not found" unless the
//! store has answered just that (R6).
//!
//! | module | what it is |
//! | --- | --- |
//! | `store` | the trait and its contract |
//! | `key`, `body`, `error` | names, contents, failures |
//! | `gate` | the order in which objects come to be |
//! | `growing` | objects that grow while they are written |
//! | `url`, `config` | where a store is, and its settings |
//! | `open` | from settings to a store |
//! | `local` | a folder on a file system |
//! | `s3` | a bucket |
//! | `retry` | retries and time limits around a store |
//! | `prove` | whether a store's put-if-absent holds |
//! | `faults` | (feature) a store that fails as told, for tests |
//! | `memory` | (feature) a store in memory, for tests |
//! | `conformance` | (feature) the contract, tried out on a store, for tests |
//!
//! ```
//! use highwater_storage::{Key, Put, StoreConfig};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # let folder = tempfile::tempdir()?;
//! # let url = format!("file://{}", folder.path().display());
//! # runtime.block_on(async {
//! let store = highwater_storage::open(&StoreConfig::from_url(&url))?;
//! let key: Key = "greetings/first".parse()?;
//! assert_eq!(store.put_if_absent(&key, &b"hello".to_vec().into()).await?, Put::Created);
//! assert_eq!(store.put_if_absent(&key, &b"other".to_vec().into()).await?, Put::Exists);
//! assert_eq!(store.get(&key).await?, &b"hello"[..]);
//! # Ok::<(), highwater_storage::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
#[cfg(feature = "faults")]
pub mod faults;
mod gate;
mod growing;
mod key;
mod local;
#[cfg(feature = "memory")]
pub mod memory;
mod open;
mod prove;
pub mod retry;
mod s3;
mod store;
mod url;

pub use body::Body;
pub use config::{Credentials, Secret, StoreConfig};
pub use error::{Error, ErrorKind, Result};
pub use gate::{Gate, GateKeeper, gate};
pub use growing::Growing;
pub use key::Key;
pub use local::ObjectFile;
pub use open::{create, open};
pub use prove::prove_conditional_put;
pub use store::{Entry, Listing, MAX_OBJECT_BYTES, PAGE_LENGTH, Put, Store};
pub use url::StoreUrl;
