//! From settings to a store.

use std::sync::Arc;

use crate::config::{Location, StoreConfig, parse_url};
use crate::error::{Error, ErrorKind, Result};
use crate::local::LocalStore;
use crate::store::Store;

/// The store that the settings describe. Nothing is asked of it yet.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a setting cannot be right.
pub fn open(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    let (location, _settings) = parse_url(config)?;
    match location {
        Location::Folder(path) => Ok(Arc::new(LocalStore::new(path))),
        Location::Bucket { .. } => Err(Error::new(
            ErrorKind::Invalid,
            "open",
            config.url.to_string(),
            "this build has no S3. hint: use file:///path",
        )),
    }
}

/// The same, and makes the repository's folder where it does not exist yet. A bucket is never made.
///
/// [`open`] leaves a missing folder alone and its store fails: the file system it lies on may not be mounted, and
/// what is written below the empty mount point is lost to sight.
///
/// # Errors
/// Those of [`open`], and of making the folder.
pub fn create(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    if let (Location::Folder(path), _) = parse_url(config)? {
        LocalStore::new(path).create_root()?;
    }
    open(config)
}
