//! Making a repository, or joining one: the first thing that is done with it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use age::secrecy::ExposeSecret;
use highwater_storage::{ErrorKind, Key, Put};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{RepositoryConfig, Secret};
use crate::crypt::wrap_identity;
use crate::facts::RepositoryFacts;
use crate::{Error, Repository, Result, keys};

/// The power of two of scrypt's work for a new wrapped identity: about a second, as `age -p` takes.
pub const PASSPHRASE_WORK_FACTOR: u8 = 18;

/// What the names of the objects begin with that are put and removed again to try the store.
const PROBES: &str = "probe/";

/// A pair of keys: the public one goes into `encrypt-to`, the private one opens what was encrypted to it.
pub struct KeyPair {
    recipient: String,
    identity: Secret,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.recipient)
    }
}

impl KeyPair {
    /// A new pair.
    pub fn generate() -> KeyPair {
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let created = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let created = created.format(&Rfc3339).unwrap_or_default();
        let text = format!(
            "# created: {created}\n# public key: {recipient}\n{}\n",
            identity.to_string().expose_secret()
        );
        KeyPair { recipient, identity: Secret::new(text) }
    }

    /// The public key, `age1…`.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Writes the private key into a new file that only its owner can read, in the form of `age-keygen`.
    ///
    /// # Errors
    /// A file that is there is never replaced: it may hold the only key to a repository.
    pub fn write_identity_file(&self, path: &Path) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(self.identity.expose().as_bytes())?;
            file.sync_all()?;
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        write().map_err(|error| Error::File {
            path: path.display().to_string(),
            message: format!("cannot write the identity: {error}"),
            hint: "name a file that is not there yet, in a folder that this user may write to, outside the repository",
        })
    }
}

/// What making or joining a repository found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Initialised {
    /// What the repository says about itself.
    pub facts: RepositoryFacts,
    /// Whether it was made now, or was there before.
    pub is_new: bool,
    /// Why the store is not safe, where the settings allow it all the same.
    pub unsafe_store: Option<String>,
}

impl Repository {
    /// Makes the repository of these settings, or joins the one that is there. The store is asked whether its
    /// conditional put holds (R2); objects named `probe/…` that this needs are removed again.
    ///
    /// # Errors
    /// [`Error::UnsafeStore`] where the store replaced an object and `allow-unsafe-store` is not set;
    /// [`Error::NewerFormat`]; those of the store.
    pub async fn init(config: &RepositoryConfig) -> Result<(Repository, Initialised)> {
        let store = highwater_storage::create(&config.store)?;
        let repository = Repository::with_store(store, config)?;
        let initialised = repository.make_or_join().await?;
        Ok((repository, initialised))
    }

    /// The same for a repository on a store that is open already.
    pub async fn make_or_join(&self) -> Result<Initialised> {
        let unsafe_store = self.prove_store().await?;
        let (facts, put) = RepositoryFacts::new(self.recipients()).put_or_read(self).await?;
        Ok(Initialised { facts, is_new: put == Put::Created, unsafe_store })
    }

    /// Asks the store whether its conditional put holds. Gives the reason why not where the settings allow that.
    pub async fn prove_store(&self) -> Result<Option<String>> {
        let reason = match highwater_storage::prove_conditional_put(self.store().as_ref(), PROBES).await {
            Ok(()) => return Ok(None),
            Err(error) if error.kind == ErrorKind::Unsafe => error.message,
            Err(error) => return Err(error.into()),
        };
        if self.config().allow_unsafe_store {
            return Ok(Some(reason));
        }
        Err(Error::UnsafeStore {
            url: self.url(),
            reason,
            hint: "use a store that honours If-None-Match, or set allow-unsafe-store = true for this repository and make \
                   sure that never two machines archive one cluster",
        })
    }

    /// Puts a private key into the repository, wrapped by a passphrase. Whoever has the passphrase can then read what is
    /// encrypted to the key.
    pub async fn put_wrapped_identity(
        &self,
        pair: &KeyPair,
        passphrase: &Secret,
        work_factor: u8,
    ) -> Result<Key> {
        let key = keys::wrapped_identity(pair.recipient());
        let wrapped = wrap_identity(pair.identity.expose(), passphrase, work_factor).map_err(Error::Codec)?;
        self.put_own(&key, &wrapped.into()).await?;
        Ok(key)
    }
}
