//! A repository: a store, and how objects are made for it and read from it.

use std::sync::Arc;

use bytes::Bytes;
use highwater_storage::{Body, ErrorKind, Key, Put, Store};
use highwater_wal::SystemId;
use tokio::sync::OnceCell;

use crate::cache::{Cache, Part};
use crate::cluster::ClusterRepository;
use crate::codec::Compression;
use crate::config::{RepositoryConfig, Secret};
use crate::crypt::{Identities, Recipients, Unopened, is_encrypted, unwrap_identity};
use crate::digest::Plain;
use crate::error::Different;
use crate::facts::RepositoryFacts;
use crate::keys;
use crate::names::ClusterName;
use crate::{Error, Result};

/// Pages of a listing that are read at most: a listing of more is cut off with an error rather than read for ever.
pub(crate) const MAX_PAGES: usize = 100_000;
/// No object is longer that is compared as a whole.
const MAX_OWN_BYTES: u64 = 1 << 30;
/// A wrapped identity is never longer.
pub(crate) const MAX_WRAPPED_BYTES: u64 = 64 << 10;
/// As many wrapped identities are tried with the passphrase, each of which takes about a second.
const MAX_WRAPPED_IDENTITIES: usize = 16;

/// A repository. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    config: RepositoryConfig,
    recipients: Option<Recipients>,
    /// Read from the identity file or unwrapped when the first encrypted object is met: who only archives need not be
    /// allowed to read the file.
    identities: OnceCell<Identities>,
    /// Whether `highwater.json`, once it has been read, says that objects are encrypted.
    is_encrypted: OnceCell<bool>,
    /// Copies on this machine, once it is known which repository this is; `None` where there is to be none.
    cache: OnceCell<Option<Cache>>,
}

impl Repository {
    /// Connects to the repository of these settings and sees that its format is known.
    ///
    /// # Errors
    /// [`Error::NoRepository`] where there is none, [`Error::NewerFormat`], and those of the store.
    pub async fn open(config: &RepositoryConfig) -> Result<Repository> {
        let repository = Repository::connect(config)?;
        repository.facts().await?;
        Ok(repository)
    }

    /// The same without asking the store anything, for those who have to be quick: they call [`Repository::facts`]
    /// while they do something else.
    pub fn connect(config: &RepositoryConfig) -> Result<Repository> {
        Repository::with_store(highwater_storage::open(&config.store)?, config)
    }

    /// A repository on a store that is open already.
    pub fn with_store(store: Arc<dyn Store>, config: &RepositoryConfig) -> Result<Repository> {
        let recipients = Recipients::parse(&config.encrypt_to).map_err(|number| Error::Config {
            place: config.label(),
            message: format!("encrypt-to: key {number} of the list is no public key"),
            hint: "a public key begins with age1; highwater init and age-keygen -y print it".to_owned(),
        })?;
        let (identities, is_encrypted, cache) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Ok(Repository(Arc::new(Inner {
            store,
            config: config.clone(),
            recipients,
            identities,
            is_encrypted,
            cache,
        })))
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The settings it was made with.
    pub fn config(&self) -> &RepositoryConfig {
        &self.0.config
    }

    /// Where it is, for messages; without secrets.
    pub fn url(&self) -> String {
        self.0.store.url()
    }

    /// How new objects are compressed.
    pub fn compression(&self) -> Compression {
        self.0.config.compression()
    }

    /// Whether new objects are encrypted.
    pub fn encrypts(&self) -> bool {
        self.0.recipients.is_some()
    }

    /// What the repository says about itself.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn facts(&self) -> Result<RepositoryFacts> {
        let facts = RepositoryFacts::read(self).await?;
        // A second reading sets the same.
        let _ = self.0.is_encrypted.set(!facts.encrypted_to.is_empty());
        let folder = self.0.config.cache_directory.as_deref();
        let _ = self.0.cache.set(folder.map(|folder| Cache::new(folder, facts.repository)));
        Ok(facts)
    }

    /// The part that belongs to one system identifier of a cluster; nothing is read yet.
    pub fn cluster(&self, name: &ClusterName, system_id: SystemId) -> ClusterRepository {
        ClusterRepository::new(self.clone(), name.clone(), system_id)
    }

    /// The names of all clusters.
    pub async fn clusters(&self) -> Result<Vec<ClusterName>> {
        Ok(self
            .folders(keys::CLUSTERS)
            .await?
            .iter()
            .filter_map(|folder| keys::folder_name(folder))
            .collect())
    }

    /// The system identifiers that a cluster has had, in no order that means anything: `cluster.json` says when each
    /// came.
    pub async fn systems(&self, name: &ClusterName) -> Result<Vec<SystemId>> {
        let folders = self.folders(&keys::systems(name)).await?;
        Ok(folders.iter().filter_map(|folder| keys::folder_name(folder)).collect())
    }

    /// All folders directly below `prefix`.
    pub(crate) async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let mut folders = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page = self.store().list(prefix, after.as_deref(), true).await?;
            folders.extend(page.folders);
            after = page.next;
            if after.is_none() {
                return Ok(folders);
            }
        }
        Err(self.endless(prefix))
    }

    /// The error for a listing of more than [`MAX_PAGES`].
    pub(crate) fn endless(&self, prefix: &str) -> Error {
        Error::Refused {
            what: format!("{}/{prefix}", self.url()),
            reason: "the listing does not end".to_owned(),
            hint: "see what fills this part of the store",
        }
    }

    /// Puts an object that no other writer would name so, and makes sure that it is this one.
    pub(crate) async fn put_own(&self, key: &Key, body: &Body) -> Result<()> {
        if self.store().put_if_absent(key, body).await? == Put::Created {
            return Ok(());
        }
        // Perhaps an earlier try of this very put, whose answer was lost.
        let there = self.fetch(key, MAX_OWN_BYTES).await?;
        if same(body, &there) {
            return Ok(());
        }
        Err(Error::Different(Box::new(Different {
            key: key.to_string(),
            here: Plain::of(&body.to_bytes()),
            there: Plain::of(&there),
            archived: None,
            hint: "two programs chose the same name: run the command again",
        })))
    }

    /// The whole object, of at most `limit` bytes.
    pub(crate) async fn fetch(&self, key: &Key, limit: u64) -> Result<Bytes> {
        let object = self.fetch_range(key, 0, limit.saturating_add(1)).await?;
        if object.len() as u64 > limit {
            return Err(Error::damaged(key, format!("it has more than the {limit} bytes that it can have")));
        }
        Ok(object)
    }

    /// What `parse` makes of the text in front of an object that is known to be there: from the copy of an earlier reading, or
    /// from the object.
    pub(crate) async fn read_listed_head<T>(
        &self,
        key: &Key,
        parse: impl Fn(&Bytes) -> Result<T>,
    ) -> Result<T> {
        let cache = self.cache();
        if let Some(copy) = cache.and_then(|cache| cache.read(key, Part::Head)) {
            // Whatever is wrong with the copy: the object tells.
            if let Ok(parsed) = self.read_stored_head(key, copy).await.and_then(|(json, _)| parse(&json)) {
                return Ok(parsed);
            }
            self.forget(key);
        }
        let beginning = self.fetch_beginning(key).await?;
        let (json, stored) = self.read_stored_head(key, beginning).await?;
        let parsed = parse(&json)?;
        if let Some(cache) = cache {
            cache.write(key, Part::Head, &stored);
        }
        Ok(parsed)
    }

    /// What `parse` makes of the decrypted content of an object of at most `limit` bytes that is known to be there, likewise.
    pub(crate) async fn read_listed_object<T>(
        &self,
        key: &Key,
        limit: u64,
        parse: impl Fn(&Bytes) -> Result<T>,
    ) -> Result<T> {
        let cache = self.cache();
        if let Some(copy) = cache.and_then(|cache| cache.read(key, Part::Whole)) {
            if let Ok(parsed) = self.unseal(key, copy).await.and_then(|content| parse(&content)) {
                return Ok(parsed);
            }
            self.forget(key);
        }
        let object = self.fetch(key, limit).await?;
        let parsed = parse(&self.unseal(key, object.clone()).await?)?;
        if let Some(cache) = cache {
            cache.write(key, Part::Whole, &object);
        }
        Ok(parsed)
    }

    /// Drops this machine's copies of an object.
    pub(crate) fn forget(&self, key: &Key) {
        if let Some(cache) = self.cache() {
            cache.forget(key);
        }
    }

    fn cache(&self) -> Option<&Cache> {
        self.0.cache.get()?.as_ref()
    }

    /// `length` bytes from `start`, fewer where the object ends before.
    pub(crate) async fn fetch_range(&self, key: &Key, start: u64, length: u64) -> Result<Bytes> {
        let error = match self.store().get_range(key, start..start.saturating_add(length)).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        // An object that is too short is damaged. A repository that isn't there is an invalid request, too.
        if error.kind == ErrorKind::Invalid && self.store().size(key).await.is_ok_and(|size| size <= start) {
            return Err(Error::damaged(key, format!("it ends before byte {start}")));
        }
        Err(Error::Store(error))
    }

    /// Makes an object of compressed pieces: encrypts them where that is wanted. `plain` goes into the header.
    ///
    /// # Errors
    /// [`Error::Config`] where the repository is known to be encrypted and the settings name no recipient: forgetting
    /// them on one machine must not leave plain objects among the encrypted ones.
    pub(crate) fn seal(&self, pieces: Vec<Bytes>, plain: impl FnOnce(&[Bytes]) -> Plain) -> Result<Body> {
        let pieces = match &self.0.recipients {
            Some(recipients) => {
                let plain = plain(&pieces);
                recipients.seal(pieces, plain).map_err(Error::Codec)?
            }
            None if self.0.is_encrypted.get() == Some(&true) => {
                return Err(Error::Config {
                    place: self.0.config.label(),
                    message: "the repository was made for encrypted objects and encrypt-to is not set"
                        .to_owned(),
                    hint: "set encrypt-to to the public keys that highwater.json names".to_owned(),
                });
            }
            None => pieces,
        };
        Ok(pieces.into_iter().collect())
    }

    /// The public keys to whom new objects are encrypted.
    pub(crate) fn recipients(&self) -> Vec<String> {
        self.0.recipients.as_ref().map(Recipients::texts).unwrap_or_default()
    }

    /// The compressed content of an object: decrypted where it is encrypted.
    pub(crate) async fn unseal(&self, key: &Key, object: Bytes) -> Result<Bytes> {
        if !is_encrypted(&object) {
            return Ok(object);
        }
        let identities = self.identities().await?;
        identities.open(&object).map(Bytes::from).map_err(|reason| self.unopened(key, reason))
    }

    /// The error for an object that could not be opened.
    pub(crate) fn unopened(&self, key: &Key, reason: Unopened) -> Error {
        match reason {
            Unopened::Fault(fault) => fault.of(key),
            Unopened::NoIdentity => Error::Locked {
                key: key.to_string(),
                hint: match &self.0.config {
                    RepositoryConfig {
                        identity_file: None, passphrase: None, passphrase_file: None, ..
                    } => "set identity-file or passphrase-file in [repository]",
                    _ => "it was encrypted to another key: add that key's identity to the identity file",
                },
            },
        }
    }

    /// The private keys at hand.
    pub(crate) async fn identities(&self) -> Result<&Identities> {
        self.0.identities.get_or_try_init(|| self.load_identities()).await
    }

    async fn load_identities(&self) -> Result<Identities> {
        if let Some(path) = &self.0.config.identity_file {
            let failed = |message: String| Error::File {
                path: path.display().to_string(),
                message,
                hint: "identity-file names a file with a line AGE-SECRET-KEY-1… that this user may read",
            };
            let text = crate::config::read_small(path).map_err(|error| failed(error.to_string()))?;
            return Identities::parse(&text).map_err(|line| failed(format!("line {line} is no private key")));
        }
        match self.0.config.passphrase()? {
            Some(passphrase) => self.unwrap_identities(&passphrase).await,
            None => Ok(Identities::default()),
        }
    }

    /// The identity in the repository that the passphrase opens.
    async fn unwrap_identities(&self, passphrase: &Secret) -> Result<Identities> {
        let listing = self.store().list(keys::WRAPPED_IDENTITIES, None, false).await?;
        let mut candidates: Vec<Key> = listing.entries.into_iter().map(|entry| entry.key).collect();
        // The one that belongs to the recipients here first, since each try takes a second.
        let ours: Vec<Key> = self.recipients().iter().map(|text| keys::wrapped_identity(text)).collect();
        candidates.sort_by_key(|key| !ours.contains(key));
        for key in candidates.into_iter().take(MAX_WRAPPED_IDENTITIES) {
            let wrapped = self.fetch(&key, MAX_WRAPPED_BYTES).await?;
            match unwrap_identity(&wrapped, passphrase) {
                Ok(text) => {
                    return Identities::parse(text.expose())
                        .map_err(|line| Error::damaged(&key, format!("line {line} is no private key")));
                }
                Err(Unopened::NoIdentity) => {}
                Err(Unopened::Fault(fault)) => return Err(fault.of(&key)),
            }
        }
        Err(Error::Locked {
            key: format!("{}/{}", self.url(), keys::WRAPPED_IDENTITIES),
            hint: "the passphrase opens none of the keys there: compare it, or set identity-file",
        })
    }
}

fn same(body: &Body, object: &[u8]) -> bool {
    let mut rest = object;
    body.pieces().iter().all(|piece| match rest.strip_prefix(piece.as_ref()) {
        Some(tail) => {
            rest = tail;
            true
        }
        None => false,
    }) && rest.is_empty()
}
