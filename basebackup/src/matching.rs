//! What was received against what the server's manifest lists (R9).

use crate::receive::Received;
use crate::server_manifest::{Summary, Tally, differences};
use crate::{Error, Result};

/// Reads the server's manifest, compares its own checksum, and matches every file.
///
/// # Errors
/// [`Error::Mismatch`] names files that differ.
pub(crate) async fn match_files(received: Received) -> Result<Summary> {
    let matching = tokio::task::spawn_blocking(move || {
        let Received { mut server_manifest, mut sent, .. } = received;
        let mut listed = Tally::default();
        let summary = server_manifest.verify(|file| listed.add(&file))?;
        if listed == *sent.tally() {
            return Ok(summary);
        }
        Err(Error::Mismatch {
            sent: sent.tally().files(),
            listed: listed.files(),
            differences: differences(&mut server_manifest, &mut sent)?,
        })
    });
    matching.await.map_err(|_| Error::Internal("a thread that ended"))?
}
