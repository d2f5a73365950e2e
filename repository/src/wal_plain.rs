//! What can be told of a file of WAL by the beginning of its object, also without an identity.

use highwater_storage::Key;
use highwater_wal::WalFile;

use crate::Result;
use crate::cluster::ClusterRepository;
use crate::crypt::{is_encrypted, plain_of_header};
use crate::digest::Plain;
use crate::wal_object::{Archived, read_wal_head};

impl ClusterRepository {
    /// Length and digest of a file of WAL, as its object says: of an encrypted one, as the header says that everybody can
    /// read and only who holds an identity can verify (R3).
    ///
    /// # Errors
    /// A store error of kind not-found where it is not there; [`Error::Damaged`](crate::Error::Damaged).
    pub async fn wal_plain(&self, file: WalFile) -> Result<Plain> {
        Ok(self.wal_told(&self.section().wal(file)).await?.0)
    }

    /// The same of the object `key`, and who put it there, where that can be read.
    pub(crate) async fn wal_told(&self, key: &Key) -> Result<(Plain, Option<Archived>)> {
        let repository = self.repository();
        let beginning = repository.fetch_beginning(key).await?;
        if !is_encrypted(&beginning) {
            let head = read_wal_head(repository, key, beginning).await?;
            return Ok((head.plain, Some(head.archived)));
        }
        let header = repository.with_header(key, &beginning).await?;
        let there = plain_of_header(&header).map_err(|fault| fault.of(key))?;
        // Who put it there can be told only by those who hold an identity.
        let head = read_wal_head(repository, key, beginning).await;
        Ok((there, head.ok().map(|head| head.archived)))
    }
}
