//! Files cut into extents, and extents gathered into batches for the threads that compress them.
//!
//! What is changed page by page is cut at fixed places, so that a changed page makes one extent new and moves none. Other
//! files are cut where their content says so (FastCDC), so that what is inserted or taken away moves only the cuts around it.

mod batch;
mod chunks;
mod cutter;

pub(crate) use batch::{Batch, Buffers, Step};
pub(crate) use cutter::Cutter;
