//! Base backups over the replication protocol into a repository.
pub mod server_manifest;
pub mod tar;
