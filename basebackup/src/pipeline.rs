//! Both halves of the pipeline and the threads between them.

use std::sync::Arc;

use highwater_repository::{Backups, Label};

use crate::Result;
use crate::cut::{Buffers, Cutter};
use crate::options::Options;
use crate::parent::ParentIndex;
use crate::pool;
use crate::progress::{Meter, Progress};
use crate::receive::{Events, Received, receive};
use crate::store::{Stored, store};

/// Receives and cuts, compresses, puts packs and writes the manifest: all at the same time, with bounded queues between.
pub(crate) async fn transfer(
    options: &Options,
    progress: &dyn Progress,
    events: &mut impl Events,
    estimated_bytes: u64,
    backups: &Backups,
    label: &Label,
    parent: Option<&ParentIndex>,
) -> Result<(Received, Stored)> {
    let buffers = Arc::new(Buffers::default());
    let compression = backups.repository().compression();
    let (feeder, collector) = pool::start(options.threads, compression, &buffers)?;
    let cutter = Cutter::new(buffers);
    let meter = Meter::new(progress, estimated_bytes);
    tokio::try_join!(
        receive(events, parent, &options.scratch, feeder, cutter, meter),
        store(collector, backups, label, options.packs)
    )
}

#[cfg(test)]
mod tests;
