//! What an error says about an object.

use highwater_repository::Error;

use crate::error;

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// It is there, and not what was put.
    Damaged(String),
    /// It is not there.
    Missing,
}

impl Bad {
    /// In words.
    pub(crate) fn reason(self) -> String {
        match self {
            Bad::Damaged(reason) => reason,
            Bad::Missing => "it is missing".to_owned(),
        }
    }
}

/// What an error says about the object that was to be read.
///
/// # Errors
/// The error itself where it says nothing about the object: the store did not answer, a file on this machine cannot be read.
pub(crate) fn verdict(error: Error) -> Result<Bad, error::Error> {
    match error {
        Error::Damaged { reason, .. } | Error::Mismatch { reason, .. } => Ok(Bad::Damaged(reason)),
        Error::Missing { .. } => Ok(Bad::Missing),
        // That there is an identity at all was seen before.
        Error::Locked { .. } => Ok(Bad::Damaged(
            "no identity at hand opens it: it is damaged, or was encrypted to another key".to_owned(),
        )),
        other if other.is_not_found() => Ok(Bad::Missing),
        other => Err(other.into()),
    }
}
