//! The second half of the pipeline: from compressed extents to packs and the manifest.

use highwater_repository::{Backups, Entry, Label, ManifestWriter, PackLimits, PackTotals, PackWriter, Run};

use crate::Result;
use crate::pool::{Collector, Made};

/// What has been stored. Nothing but the manifest itself is missing (R9).
#[derive(Debug)]
pub(crate) struct Stored {
    /// With all files in it, and not put yet.
    pub(crate) manifest: ManifestWriter,
    /// The packs, all of them durable.
    pub(crate) packs: PackTotals,
    /// Bytes of files that the parent holds.
    pub(crate) reused_bytes: u64,
    /// Bytes of files that are zeros.
    pub(crate) zero_bytes: u64,
}

/// Puts everything that comes out of the threads.
pub(crate) async fn store(
    mut collector: Collector,
    backups: &Backups,
    label: &Label,
    limits: PackLimits,
) -> Result<Stored> {
    let mut packs = PackWriter::new(backups, limits);
    let mut manifest = ManifestWriter::new(backups, label)?;
    let (mut reused_bytes, mut zero_bytes) = (0, 0);
    let mut runs = Vec::new();
    while let Some(made) = collector.next().await? {
        for made in made {
            match made {
                Made::Zeros(length) => {
                    zero_bytes += length;
                    Run::push_zeros(&mut runs, length);
                }
                Made::Known(extent) => {
                    reused_bytes += u64::from(extent.length);
                    Run::push(&mut runs, extent);
                }
                Made::New(extent) => Run::push(&mut runs, packs.add(&extent).await?),
                Made::End(file) => manifest.add(&Entry::File(file, std::mem::take(&mut runs))).await?,
                Made::Other(entry) => manifest.add(&entry).await?,
            }
        }
    }
    let packs = packs.finish().await?;
    Ok(Stored { manifest, packs, reused_bytes, zero_bytes })
}
