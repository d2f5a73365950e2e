//! The contract that every backend keeps.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::body::Body;
use crate::error::Result;
use crate::growing::Growing;
use crate::key::Key;
use crate::local::ObjectFile;

/// The most entries and folders in one page of a listing.
pub const PAGE_LENGTH: usize = 1000;

/// The largest object that is put or read whole, in bytes: one put must do, on every store.
pub const MAX_OBJECT_BYTES: u64 = 1 << 30;

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an object that was there before may hold something else: compare (R3)"]
pub enum Put {
    /// The object was made by this call and is durable.
    Created,
    /// An object of that name was there before and is durable; nothing was changed. What was there may be the work
    /// of an earlier try of this very call, whose answer was lost: the caller compares (R3).
    Exists,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its length in bytes.
    pub size: u64,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects, in byte order of their keys.
    pub entries: Vec<Entry>,
    /// With `folders`: what the keys that hold a further `/` behind the prefix begin with, each once, whole (prefix
    /// included) and ending in `/`, in byte order. A folder without an object in it isn't named.
    pub folders: Vec<String>,
    /// What to pass as `after` for the next page; nothing when this was the last.
    pub next: Option<String>,
}

/// Where objects are kept.
///
/// # Contract
///
/// **Immutable objects (R2).** An object is made by [`put_if_absent`](Store::put_if_absent), read, and perhaps
/// deleted. Nothing changes or replaces one, so any reading may be kept for ever. The one exception are objects made by
/// [`grow`](Store::grow): bytes that are there are never changed in them either, but zeros become more of them ([`Growing`]).
///
/// **Atomic.** An object is seen whole or not at all, by every reader, whatever happens to the writer. Of any number
/// of puts on one name at the same time exactly one answers [`Put::Created`], and its body is the object.
///
/// **Durable (R1).** When a put has answered, with either of its answers, the object outlasts a crash of the
/// machine (folder) or is what the store's own promise covers (S3).
///
/// **Read what was written.** A get, size or listing that begins after a put has answered sees the object.
///
/// **Not found is an answer, never a guess (R6).** [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) comes only
/// from a store that is there, lets us look, and has no such object.
///
/// **A key is not a folder of others.** Whoever keeps `a` never puts `a/b`. A bucket would take both, a file system
/// cannot, so the local folder answers [`ErrorKind::Invalid`](crate::ErrorKind::Invalid).
///
/// **In order.** The object of a body behind a [`Gate`](crate::Gate) does not come to be before that is open; the put waits for it.
///
/// **Errors** are passing ([`Error::is_passing`](crate::Error::is_passing)) when the same call may well succeed
/// later. A put that failed with a passing error may have happened nevertheless. One that failed with another error
/// has not left an object, unless its kind is [`Other`](crate::ErrorKind::Other).
///
/// **Cancelling.** Dropping the future of a call is allowed at any time; a put dropped so may still happen.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Makes the object `key` with `body`, at most [`MAX_OBJECT_BYTES`], unless there is one of that name.
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put>;

    /// Makes the object `key`, `bytes` long and all zeros, that grows; `None` where this store has no such objects. When this has answered, the
    /// object is there durably.
    ///
    /// An object that is there already is left alone, and an error.
    async fn grow(&self, _: &Key, _bytes: u64) -> Result<Option<Box<dyn Growing>>> {
        Ok(None)
    }

    /// The whole object, at most [`MAX_OBJECT_BYTES`].
    async fn get(&self, key: &Key) -> Result<Bytes>;

    /// The bytes of `range`, cut at the object's end.
    ///
    /// A range that is empty or does not begin inside the object is an error of kind
    /// [`Invalid`](crate::ErrorKind::Invalid).
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes>;

    /// The object as an open file, where this store keeps objects as files: to be read at several places at once, and
    /// without memory for all of it. `None` where it does not.
    async fn open(&self, _: &Key) -> Result<Option<ObjectFile>> {
        Ok(None)
    }

    /// The object's length in bytes.
    async fn size(&self, key: &Key) -> Result<u64>;

    /// One page of the objects whose keys begin with `prefix` (any text, not only whole parts) and lie behind
    /// `after` in byte order.
    ///
    /// With `folders`, keys that hold a `/` behind the prefix are not listed but gathered into [`Listing::folders`];
    /// a folder that `after` is or lies in is left out.
    /// A page has at most [`PAGE_LENGTH`] entries and folders together, and may have fewer, or none, though more
    /// follow: only [`Listing::next`] tells. What is no [`Key`] (a stray file, a name of
    /// somebody else's) is passed over. Objects put or deleted while the pages are read may be in them or not; all
    /// others are, once.
    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing>;

    /// Removes the object. Removing what is not there is a success.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Removes objects, in this order, and makes that durable at the end where it costs something. After a failure those at
    /// the end may still be there.
    async fn delete_all(&self, keys: &[Key]) -> Result<()> {
        for key in keys {
            self.delete(key).await?;
        }
        Ok(())
    }

    /// Where the objects are, for messages: without secrets, without settings.
    fn url(&self) -> String;
}
