//! `ReadyForQuery`: the server is ready for the next command.

use crate::{Error, Result};

/// Whether a transaction is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// None is.
    Idle,
    /// One is.
    Open,
    /// One is, and it has failed.
    Failed,
}

impl TransactionStatus {
    pub(super) fn new(status: u8) -> Result<TransactionStatus> {
        match status {
            b'I' => Ok(TransactionStatus::Idle),
            b'T' => Ok(TransactionStatus::Open),
            b'E' => Ok(TransactionStatus::Failed),
            _ => Err(Error::protocol("a transaction status that does not exist")),
        }
    }
}
