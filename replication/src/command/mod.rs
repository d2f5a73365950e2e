//! What can be asked of a server: one file for each command, as methods of [`crate::Client`].

pub(crate) mod base_backup;
pub(crate) mod identify_system;
pub(crate) mod query;
mod show;
pub(crate) mod slot;
pub(crate) mod start_replication;
pub(crate) mod timeline_history;
