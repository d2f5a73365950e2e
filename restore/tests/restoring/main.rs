//! Restores of backups that were made for the purpose, from stores that fail, into folders that will not do.

mod faults;
mod fixture;
mod folders;
mod resume;
mod servers;
mod whole;
