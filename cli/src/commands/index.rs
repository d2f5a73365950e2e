//! `highwater index`: lets whoever asks next find their way more quickly.

use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Bar};

/// Logs that are indexed behind a backup, at most: 256 GiB of WAL, more than most clusters write between two backups.
const LOGS_BEHIND_A_BACKUP: usize = 64;

/// Puts every index object that is missing.
pub async fn run(context: &Context) -> Result<(), Error> {
    let mut catalog = context.catalog().await?;
    let bar = Bar::new(context.common.quiet);
    let logs = catalog.unindexed_logs();
    let made =
        catalog.index_logs(usize::MAX, |done| bar.set(&format!("log {done} of {logs}"), 0, None)).await;
    bar.clear();
    let made = made?;
    if context.common.json {
        return output::json(&json!({ "indexed": made.indexed, "passed_over": made.passed_over }));
    }
    let passed_over = match made.passed_over {
        0 => String::new(),
        n => format!(
            "; {n} passed over, since their segments are damaged, or have gone meanwhile, or say too much to lie in one object"
        ),
    };
    output::print(&format!("{} of 4 GiB of WAL indexed{passed_over}.\n", output::count(made.indexed, "log")))
}

/// Puts what the WAL since the last backup calls for. Nothing that was asked for depends on it.
pub async fn behind_a_backup(context: &Context) {
    let indexed = async {
        let mut catalog = context.catalog().await?;
        Ok::<_, Error>(catalog.index_logs(LOGS_BEHIND_A_BACKUP, |_| {}).await?)
    };
    match indexed.await {
        // A host that only writes has no identity to read summaries with: another one does it.
        Ok(_) | Err(Error::Repository(highwater_repository::Error::Locked { .. })) => {}
        Err(error) => output::notes(&[format!(
            "the WAL was not indexed, which costs time later and nothing else: {error}"
        )]),
    }
}
