//! What can be told of a file of WAL without an identity.

use highwater_wal::WalFile;

use crate::cluster::ClusterRepository;
use crate::crypt::{is_encrypted, plain_of_header};
use crate::digest::Plain;
use crate::{Error, Result};

impl ClusterRepository {
    /// Length and digest of a file of WAL, as its object says: of an encrypted one, as the header says that everybody can
    /// read and only who holds an identity can verify (R3).
    ///
    /// # Errors
    /// A store error of kind not-found where it is not there; [`Error::Damaged`].
    pub async fn wal_plain(&self, file: WalFile) -> Result<Plain> {
        let repository = self.repository();
        let key = self.section().wal(file);
        let beginning = repository.fetch_beginning(&key).await?;
        if !is_encrypted(&beginning) {
            return Ok(self.wal_head(file).await?.plain);
        }
        let header = repository.with_header(&key, &beginning).await?;
        plain_of_header(&header).map_err(|fault| -> Error { fault.of(&key) })
    }
}
