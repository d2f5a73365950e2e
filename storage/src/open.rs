//! From settings to a store.

use std::sync::Arc;

use crate::config::StoreConfig;
use crate::error::Result;
use crate::local::LocalStore;
use crate::retry::Retry;
use crate::s3::S3Store;
use crate::store::Store;
use crate::url::{self, Location};

/// The store that the settings describe, with retries and time limits. Nothing is asked of it yet.
///
/// Its calls need a tokio runtime with time enabled, and for S3 with I/O too; a single-threaded one will do.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a setting cannot be right.
pub fn open(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    let (location, settings) = url::parse(config)?;
    let store: Arc<dyn Store> = match location {
        Location::Folder(path) => Arc::new(LocalStore::new(path)),
        Location::Bucket { bucket, prefix } => Arc::new(S3Store::new(bucket, prefix, &settings)?),
    };
    Ok(Arc::new(Retry::new(store, &settings)))
}

/// The same, and makes the repository's folder where it does not exist yet. A bucket is never made.
///
/// [`open`] leaves a missing folder alone and its store fails: the file system it lies on may not be mounted, and
/// what is written below the empty mount point is lost to sight.
///
/// # Errors
/// Those of [`open`], and of making the folder.
pub fn create(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    let store = open(config)?;
    if let (Location::Folder(path), _) = url::parse(config)? {
        LocalStore::new(path).create_root()?;
    }
    Ok(store)
}
