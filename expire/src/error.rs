//! What can end a run.

use highwater_catalog::PlanError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why nothing was done, or why the rest of it was not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing says what to keep.
    #[error(
        "no rule says what to keep, so nothing is removed; hint: write window, backups, daily, weekly, monthly or yearly into \
         [retention] of the configuration, or name one here, as in --window 14d"
    )]
    NoRule,
    /// A setting that would take away what a rule promises.
    #[error(
        "{setting} is {is}; hint: it has to be at least {least}, so that what is running meanwhile comes to its end"
    )]
    TooShort {
        /// Its name.
        setting: &'static str,
        /// What it is set to.
        is: String,
        /// What it must be.
        least: String,
    },
    /// The repository.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),
    /// What a backup reaches could not be told.
    #[error(transparent)]
    Plan(#[from] PlanError),
}
