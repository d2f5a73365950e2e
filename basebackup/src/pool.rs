//! The threads that digest and compress, and the order in which their work comes back.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use highwater_repository::{
    CompressedExtent, Compression, Digest, Entry, ExtentCompressor, ExtentRef, manifest,
};
use tokio::sync::{mpsc as async_mpsc, oneshot};

use crate::cut::{Batch, Buffers, Step};
use crate::{Error, Result};

/// The most threads. Each has a batch and its result in memory; more would not be fed by one connection.
pub(crate) const MAX_THREADS: usize = 16;
/// Batches that wait beside those being worked on, or are done and wait for their turn.
const WAITING_BATCHES: usize = 4;

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Made {
    /// An extent of zeros.
    Zeros(u64),
    /// An extent that the parent has.
    Known(ExtentRef),
    /// An extent to be stored.
    New(CompressedExtent),
    /// The file has all its extents.
    End(manifest::File),
    /// A folder or a link.
    Other(Entry),
}

type Work = (Batch, oneshot::Sender<Result<Vec<Made>>>);

/// Where batches go in.
#[derive(Debug)]
pub(crate) struct Feeder {
    work: mpsc::Sender<Work>,
    turns: async_mpsc::Sender<oneshot::Receiver<Result<Vec<Made>>>>,
}

/// Where what was made of them comes out, in the order in which they went in.
#[derive(Debug)]
pub(crate) struct Collector {
    turns: async_mpsc::Receiver<oneshot::Receiver<Result<Vec<Made>>>>,
}

/// Starts `threads` threads, which end when the feeder is dropped. Buffers of batches go back to `buffers`.
pub(crate) fn start(
    threads: usize,
    compression: Compression,
    buffers: &Arc<Buffers>,
) -> Result<(Feeder, Collector)> {
    let threads = threads.clamp(1, MAX_THREADS);
    let (work, inbox) = mpsc::channel::<Work>();
    let inbox = Arc::new(Mutex::new(inbox));
    for number in 0..threads {
        let (inbox, buffers) = (Arc::clone(&inbox), Arc::clone(buffers));
        let mut compressor = ExtentCompressor::new(&compression)?;
        let run = move || {
            loop {
                let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((mut batch, reply)) = next else { return };
                let made = process(&mut batch, &mut compressor);
                buffers.give(batch.bytes);
                // Nobody waits any more when the backup has been given up.
                let _ = reply.send(made);
            }
        };
        thread::Builder::new().name(format!("compress-{number}")).spawn(run)?;
    }
    let (turns, collected) = async_mpsc::channel(threads + WAITING_BATCHES);
    Ok((Feeder { work, turns }, Collector { turns: collected }))
}

impl Feeder {
    /// Hands in a batch; waits while too many are under way.
    pub(crate) async fn feed(&self, batch: Batch) -> Result<()> {
        let (reply, result) = oneshot::channel();
        // First its turn, so that the queue of work is bounded by that of turns.
        self.turns.send(result).await.map_err(|_| GIVEN_UP)?;
        self.work.send((batch, reply)).map_err(|_| GIVEN_UP)
    }
}

/// The other half has ended with an error of its own, which is the one that counts.
const GIVEN_UP: Error = Error::Internal("a thread that ended");

impl Collector {
    /// What was made of the next batch; `None` when the feeder is gone and all have come.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Made>>> {
        match self.turns.recv().await {
            None => Ok(None),
            Some(result) => result.await.map_err(|_| GIVEN_UP)?.map(Some),
        }
    }
}

fn process(batch: &mut Batch, compressor: &mut ExtentCompressor) -> Result<Vec<Made>> {
    let steps = std::mem::take(&mut batch.steps);
    let make = |step| match step {
        Step::End(file) => Ok(Made::End(file)),
        Step::Other(entry) => Ok(Made::Other(entry)),
        Step::Extent { range, known } => {
            let plain = &batch.bytes[range];
            if is_zeros(plain) {
                return Ok(Made::Zeros(plain.len() as u64));
            }
            let digest = Digest::of(plain);
            match known.and_then(|known| known.find(digest, plain.len() as u32)) {
                Some(extent) => Ok(Made::Known(extent)),
                None => Ok(Made::New(compressor.compress_digested(plain, digest)?)),
            }
        }
    };
    steps.into_iter().map(make).collect()
}

fn is_zeros(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}
