//! Which backup is the parent.

use futures_util::{StreamExt, TryStreamExt, stream};
use highwater_repository::{Backups, Error as RepositoryError, Label, ManifestReader};
use highwater_wal::Timestamp;

use crate::Result;

/// Backups that are looked at, the last by name first; labels that are not chosen by the user sort by time.
const MAX_CANDIDATES: usize = 400;
/// How many are looked at at the same time.
const AT_A_TIME: usize = 16;

/// The parent, or why there is none.
#[derive(Debug)]
pub(crate) enum Choice {
    /// This backup, whose manifest can be read.
    Parent(Label, Box<ManifestReader>),
    /// There is no complete backup that is not expired.
    First,
    /// There is one, and its manifest cannot be read here; why.
    Unreadable(Label, String),
}

/// The newest complete backup of the section that is not expired. Every backup of a section has the same system
/// identifier, since that is part of its key.
///
/// # Errors
/// Those of the store. A manifest that is damaged, locked or gone is none: the backup is then a full one.
pub(crate) async fn choose(backups: &Backups) -> Result<Choice> {
    let labels = backups.labels().await?.into_iter().rev().take(MAX_CANDIDATES);
    let looks = stream::iter(labels).map(|label| look(backups, label)).buffered(AT_A_TIME);
    let mut looks = std::pin::pin!(looks);
    let (mut newest, mut unreadable) = (None, None);
    while let Some(look) = looks.try_next().await? {
        match look {
            Look::Complete(label, finished_at) => {
                if newest.as_ref().is_none_or(|(_, time)| *time < finished_at) {
                    newest = Some((label, finished_at));
                }
            }
            Look::Unreadable(label, reason) => unreadable = Some(Choice::Unreadable(label, reason)),
            Look::Other => {}
        }
    }
    let Some((label, _)) = newest else { return Ok(unreadable.unwrap_or(Choice::First)) };
    match ManifestReader::open(backups, &label).await {
        Ok(manifest) => Ok(Choice::Parent(label, Box::new(manifest))),
        Err(error) if is_unreadable(&error) => Ok(Choice::Unreadable(label, error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// What a backup is found to be.
enum Look {
    /// It was complete at this time, by the clock of the machine that made it.
    Complete(Label, Timestamp),
    /// Its manifest is there and cannot be read here.
    Unreadable(Label, String),
    /// It is not complete, or is to go.
    Other,
}

async fn look(backups: &Backups, label: Label) -> Result<Look> {
    match backups.head(&label).await {
        Ok(Some(head)) if !backups.is_expired(&label).await? => Ok(Look::Complete(label, head.finished_at)),
        Ok(_) => Ok(Look::Other),
        Err(error) if is_unreadable(&error) => Ok(Look::Unreadable(label, error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Whether the object is the problem, and not the way to it.
pub(crate) fn is_unreadable(error: &RepositoryError) -> bool {
    error.is_damaged()
        || error.is_not_found()
        || matches!(error, RepositoryError::Locked { .. } | RepositoryError::NewerFormat { .. })
}
