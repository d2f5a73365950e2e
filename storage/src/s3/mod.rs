//! Objects in a bucket of S3, or of a store that speaks like it.
//!
//! Every object is one `PutObject` with `If-None-Match: *`, so no upload in parts is ever needed. The HTTP client
//! keeps connections for later requests. No request is repeated here; [`Retry`](crate::retry::Retry) does that.

mod client;
mod failure;
mod payload;
mod roots;
mod settings;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use bytes::{Bytes, BytesMut};

use crate::body::Body;
use crate::config::StoreConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::store::{Entry, Listing, MAX_OBJECT_BYTES, PAGE_LENGTH, Put, Store};
use failure::Answer;
use settings::S3Settings;

/// Behind every key of ours that begins with the text before it: no key holds this character, and those that a key
/// may hold are smaller.
const BEHIND_ALL: char = '~';

/// The status of an answer to a range that begins behind the object.
const RANGE_NOT_SATISFIABLE: u16 = 416;

/// A repository in a bucket.
pub(crate) struct S3Store {
    client: Client,
    bucket: String,
    /// What stands before every key: empty, or ending in `/`.
    prefix: String,
    storage_class: Option<StorageClass>,
    encryption: Option<ServerSideEncryption>,
    kms_key_id: Option<String>,
    sends_checksum: bool,
}

impl S3Store {
    pub(crate) fn new(bucket: String, prefix: String, config: &StoreConfig) -> Result<Self> {
        let environment = |name: &str| std::env::var(name).ok();
        let bad = |message: String| Error::new(ErrorKind::Invalid, "open", config.url.to_string(), message);
        let settings = S3Settings::new(config, &environment).map_err(bad)?;
        Ok(Self {
            client: client::build(&settings, &environment).map_err(bad)?,
            bucket,
            prefix,
            storage_class: settings.storage_class,
            encryption: settings.encryption,
            kms_key_id: settings.kms_key_id,
            sends_checksum: settings.sends_checksum,
        })
    }

    fn object(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// One `GetObject`, up to the beginning of its body; nothing when the object ends before the range begins.
    async fn get_object(
        &self,
        operation: &'static str,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> Result<Option<GetObjectOutput>> {
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let request = self.client.get_object().bucket(&self.bucket).key(self.object(key)).set_range(range);
        match request.send().await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if Answer::of(&error).status == RANGE_NOT_SATISFIABLE => Ok(None),
            Err(error) => Err(failure::from_sdk(operation, key.as_str(), &self.url(), error)),
        }
    }

    /// The body of an answer, which must be `length` bytes.
    async fn read(&self, key: &Key, mut answer: GetObjectOutput, length: u64) -> Result<Bytes> {
        let room = usize::try_from(length).ok().filter(|_| length <= MAX_OBJECT_BYTES);
        let room = room.ok_or_else(|| Error::too_large("get", key.as_str(), length))?;
        let cut_off = |error| failure::cut_off(key.as_str(), &self.url(), error);
        let mut whole = BytesMut::with_capacity(room);
        while let Some(piece) = answer.body.next().await {
            let piece = piece.map_err(cut_off)?;
            if whole.len() + piece.len() > room {
                return Err(self.unexpected("get", key, "the answer is longer than it says"));
            }
            whole.extend_from_slice(&piece);
        }
        if whole.len() < room {
            let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(failure::cut_off(key.as_str(), &self.url(), ended));
        }
        Ok(whole.freeze())
    }

    /// After "exists already" or "conflict": both can be wrong (R3), so what is there decides.
    async fn look_after_refusal(&self, key: &Key, answer: &str) -> Result<Put> {
        match self.size(key).await {
            Ok(_) => Ok(Put::Exists),
            Err(error) if error.is_not_found() => Err(Error::new(
                ErrorKind::Unavailable,
                "put",
                key.as_str(),
                format!(
                    "{}: {answer}, yet there is no such object. hint: this passes: something else puts or deletes it",
                    self.url()
                ),
            )),
            Err(error) => Err(error),
        }
    }

    fn unexpected(&self, operation: &'static str, key: &Key, what: &str) -> Error {
        Error::new(
            ErrorKind::Other,
            operation,
            key.as_str(),
            format!("{}: {what}. hint: check endpoint and path-style, and what lies between", self.url()),
        )
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        let length = i64::try_from(body.len()).ok().filter(|_| body.len() <= MAX_OBJECT_BYTES);
        let length = length.ok_or_else(|| Error::too_large("put", key.as_str(), body.len()))?;
        let hash = payload::sha256(body).await;
        let checksum = self.sends_checksum.then(|| aws_smithy_types::base64::encode(hash));
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.object(key))
            .if_none_match("*")
            .content_length(length)
            .set_checksum_sha256(checksum)
            .set_storage_class(self.storage_class.clone())
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .body(payload::stream(body))
            .customize()
            .interceptor(payload::SignedWith(payload::hex(hash.as_ref())))
            .send()
            .await;
        match sent {
            // Something in between that says "200" to everything doesn't say this.
            Ok(answer) if answer.e_tag().is_none_or(str::is_empty) => Err(self.unexpected(
                "put",
                key,
                "the answer to the put has no ETag, so it is not an S3 server's",
            )),
            Ok(_) => Ok(Put::Created),
            Err(error) => {
                let answer = Answer::of(&error);
                if matches!(answer.status, 409 | 412) {
                    return self.look_after_refusal(key, &answer.to_string()).await;
                }
                Err(failure::from_sdk("put", key.as_str(), &self.url(), error))
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        let answer = self.get_object("get", key, None).await?;
        let length = answer.as_ref().and_then(|answer| u64::try_from(answer.content_length()?).ok());
        let (Some(answer), Some(length)) = (answer, length) else {
            return Err(self.unexpected("get", key, "the answer does not say how long it is"));
        };
        self.read(key, answer, length).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Err(Error::bad_range(key.as_str(), range.start, None));
        }
        let Some(answer) = self.get_object("get", key, Some(range.clone())).await? else {
            return Err(Error::bad_range(key.as_str(), range.start, None));
        };
        let part = answer.content_range().and_then(ContentRange::parse);
        let part = part.filter(|part| part.first == range.start && part.last < range.end);
        let part =
            part.ok_or_else(|| self.unexpected("get", key, "the answer is not the range asked for"))?;
        self.read(key, answer, part.last - part.first + 1).await
    }

    async fn size(&self, key: &Key) -> Result<u64> {
        let asked = self.client.head_object().bucket(&self.bucket).key(self.object(key)).send().await;
        let length = match asked {
            Ok(answer) => answer.content_length().and_then(|length| u64::try_from(length).ok()),
            Err(error) => {
                let status = Answer::of(&error).status;
                let error = failure::from_sdk("look at", key.as_str(), &self.url(), error);
                if error.is_passing() || status == 0 {
                    return Err(error);
                }
                // The answer to HEAD has no body, so it cannot say what is missing or refused: ask with a GET.
                match self.get_object("look at", key, Some(0..1)).await? {
                    Some(answer) => {
                        answer.content_range().and_then(ContentRange::parse).map(|part| part.size)
                    }
                    None => Some(0),
                }
            }
        };
        length
            .ok_or_else(|| self.unexpected("look at", key, "the answer does not say how long the object is"))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(format!("{}{prefix}", self.prefix))
            .set_start_after(
                after.map(|after| format!("{}{}", self.prefix, start_after(prefix, after, folders))),
            )
            .set_delimiter(folders.then(|| "/".to_owned()))
            .max_keys(PAGE_LENGTH as i32)
            .send()
            .await
            .map_err(|error| failure::from_sdk("list", prefix, &self.url(), error))?;

        let ours = |name: &str| name.strip_prefix(&self.prefix).map(str::to_owned);
        let objects: Vec<(String, u64)> = answer
            .contents()
            .iter()
            .filter_map(|object| Some((ours(object.key()?)?, u64::try_from(object.size()?).ok()?)))
            .collect();
        let gathered: Vec<String> =
            answer.common_prefixes().iter().filter_map(|folder| ours(folder.prefix()?)).collect();
        let last = objects.last().map(|(name, _)| name).max(gathered.last());
        let next = match (answer.is_truncated(), last) {
            (Some(false), _) => None,
            (Some(true), Some(last)) if Some(last.as_str()) > after => Some(last.clone()),
            _ => return Err(self.bad_listing(prefix)),
        };
        Ok(Listing {
            entries: objects
                .into_iter()
                .filter_map(|(name, size)| Some(Entry { key: name.parse().ok()?, size }))
                .collect(),
            folders: gathered
                .into_iter()
                .filter(|folder| folder.trim_end_matches('/').parse::<Key>().is_ok())
                .filter(|folder| !after.is_some_and(|after| after.starts_with(folder.as_str())))
                .collect(),
            next,
        })
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let sent = self.client.delete_object().bucket(&self.bucket).key(self.object(key)).send().await;
        match sent.map_err(|error| failure::from_sdk("delete", key.as_str(), &self.url(), error)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix).trim_end_matches('/').to_owned()
    }
}

impl S3Store {
    fn bad_listing(&self, prefix: &str) -> Error {
        Error::new(
            ErrorKind::Other,
            "list",
            prefix,
            format!(
                "{}: the answer does not say whether more follows, or says so and gives no more. hint: check endpoint \
                 and path-style, and what lies between",
                self.url()
            ),
        )
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client, which holds credentials (R21).
        write!(f, "S3Store({})", self.url())
    }
}

/// Where the server is to begin: behind all of the folder that `after` lies in, when folders are gathered.
fn start_after(prefix: &str, after: &str, folders: bool) -> String {
    let rest = after.strip_prefix(prefix).unwrap_or("");
    match rest.find('/') {
        Some(slash) if folders => format!("{prefix}{}{BEHIND_ALL}", &rest[..=slash]),
        _ => after.to_owned(),
    }
}

/// The header `Content-Range: bytes first-last/size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    last: u64,
    size: u64,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (part, size) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = part.split_once('-')?;
        let found = Self { first: first.parse().ok()?, last: last.parse().ok()?, size: size.parse().ok()? };
        (found.first <= found.last && found.last < found.size).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let good = ContentRange { first: 2, last: 4, size: 100 };
        assert_eq!(ContentRange::parse("bytes 2-4/100"), Some(good));
        for bad in [
            "",
            "bytes */100",
            "bytes 2-4/*",
            "bytes 4-2/100",
            "bytes 2-100/100",
            "2-4/100",
            "bytes 2-4",
            "bytes -4/9",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_page_of_folders_begins_behind_all_of_the_last_one() {
        let cases = [
            ("", "a/x", true, "a/~"),
            ("", "a/", true, "a/~"),
            ("p/", "p/a/x/y", true, "p/a/~"),
            ("p/", "p/a", true, "p/a"),
            ("p/q", "p/qr/s", true, "p/qr/~"),
            ("p/q", "p/a/s", true, "p/a/s"),
            ("", "a/x", false, "a/x"),
        ];
        for (prefix, after, folders, expected) in cases {
            assert_eq!(start_after(prefix, after, folders), expected, "{prefix} {after} {folders}");
        }
    }
}
