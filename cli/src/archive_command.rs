//! The `archive_command` that belongs to a configuration.

use std::path::Path;

use highwater_repository::config::DEFAULT_PATH;
use highwater_repository::{ClusterName, Config};

/// The line for postgresql.conf: the program beside this one, with what it has to be told.
pub fn line(config: &Path, cluster: &ClusterName) -> String {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(|folder| folder.join("highwater-archive-cmd"));
    let program = beside.unwrap_or_else(|| "highwater-archive-cmd".into());
    let mut command = program.display().to_string();
    if config != Path::new(DEFAULT_PATH) {
        command += &format!(" --config {}", config.display());
    }
    if Config::load(Some(config)).is_ok_and(|config| config.clusters.len() > 1) {
        command += &format!(" --cluster {cluster}");
    }
    // As a string of postgresql.conf.
    format!("archive_command = '{}'", format!("{command} %p").replace('\'', "''"))
}
