//! Which backup is the parent.

use highwater_repository::{Backups, Error as RepositoryError, Label, ManifestReader};

use crate::Result;

/// Backups that are looked at, the latest by name first; labels that are not chosen by the user sort by time.
const MAX_CANDIDATES: usize = 400;

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
    let (mut newest, mut unreadable) = (None, None);
    for label in backups.labels().await?.into_iter().rev().take(MAX_CANDIDATES) {
        let finished_at = match backups.head(&label).await {
            Ok(Some(head)) => head.finished_at,
            Ok(None) => continue,
            Err(error) if is_unreadable(&error) => {
                let is_locked = matches!(error, RepositoryError::Locked { .. });
                unreadable = Some(Choice::Unreadable(label, error.to_string()));
                // What opens none opens no other either.
                if is_locked { break } else { continue }
            }
            Err(error) => return Err(error.into()),
        };
        let is_newer = newest.as_ref().is_none_or(|(_, time)| *time < finished_at);
        if is_newer && !backups.is_expired(&label).await? {
            newest = Some((label, finished_at));
        }
    }
    let Some((label, _)) = newest else { return Ok(unreadable.unwrap_or(Choice::First)) };
    match ManifestReader::open(backups, &label).await {
        Ok(manifest) => Ok(Choice::Parent(label, Box::new(manifest))),
        Err(error) if is_unreadable(&error) => Ok(Choice::Unreadable(label, error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Whether the object is the problem, and not the way to it.
pub(crate) fn is_unreadable(error: &RepositoryError) -> bool {
    error.is_damaged()
        || error.is_not_found()
        || matches!(error, RepositoryError::Locked { .. } | RepositoryError::NewerFormat { .. })
}
