//! One ranged read and what is written from it; and files that need none.

use std::fs::File;
use std::sync::Arc;

use highwater_repository::FetchedExtents;

use super::Shared;
use super::content::{Content, Writing};
use super::reads::{Piece, Read};
use crate::{Error, Result};

/// Fetches extents, verifies and writes them. Gives the number of bytes.
pub(super) async fn read(shared: Arc<Shared>, read: Read) -> Result<u64> {
    let extents = read.extents();
    let mut stopped = shared.stopped.subscribe();
    let fetched = tokio::select! {
        fetched = shared.extents.fetch(&extents) => fetched,
        _ = stopped.wait_for(|stopped| *stopped) => return Err(given_up()),
    };
    let fetched = fetched.map_err(|source| content_error(read.pieces.first(), source))?;
    compute(shared, move |shared| write(shared, &fetched, &read.pieces)).await
}

/// Makes files that have all their bytes without a read.
pub(super) async fn bare(shared: Arc<Shared>, files: Vec<Arc<Content>>) -> Result<u64> {
    compute(shared, move |shared| {
        for content in files {
            let file = content.open(&shared.places, shared.manner)?;
            finish(shared, &content, &file)?;
        }
        Ok(0)
    })
    .await
}

/// Runs `work` on a thread of its own, when a processor is free.
async fn compute<F>(shared: Arc<Shared>, work: F) -> Result<u64>
where
    F: FnOnce(&Shared) -> Result<u64> + Send + 'static,
{
    let turn = Arc::clone(&shared);
    let _permit = turn.processors.acquire().await.map_err(|error| Error::Thread(error.to_string()))?;
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.map_err(|error| Error::Thread(error.to_string()))?
}

fn write(shared: &Shared, fetched: &FetchedExtents, pieces: &[Piece]) -> Result<u64> {
    let mut buffer = Vec::new();
    let mut writing: Option<Writing<'_>> = None;
    let mut rest = pieces.iter();
    // What is named when an extent turns out to be damaged, which is before it is handed over.
    let mut next = pieces.first();
    let mut bytes = 0;
    let done = fetched.each(&mut buffer, |_, plain| {
        if *shared.stopped.borrow() {
            return Err(given_up());
        }
        let Some(piece) = rest.next() else {
            return Err(Error::Thread("more extents came than were asked for".to_owned()));
        };
        next = rest.as_slice().first();
        let mut file = match writing.take() {
            Some(open) if open.is(&piece.file) => open,
            other => {
                end(shared, other)?;
                Writing::new(&piece.file, piece.file.open(&shared.places, shared.manner)?)
            }
        };
        file.write(piece.at, plain)?;
        bytes += plain.len() as u64;
        writing = Some(file);
        Ok(())
    });
    done.map_err(|error| match error {
        Error::Repository(source) => content_error(next, source),
        other => other,
    })?;
    end(shared, writing)?;
    Ok(bytes)
}

/// Ends the writing of a file for now, and for good when it has all its bytes.
fn end(shared: &Shared, writing: Option<Writing<'_>>) -> Result<()> {
    let Some(writing) = writing else { return Ok(()) };
    let content = writing.content();
    match writing.end() {
        (file, true) => finish(shared, content, &file),
        (_, false) => Ok(()),
    }
}

fn finish(shared: &Shared, content: &Content, file: &File) -> Result<()> {
    if content.finish(file, shared.manner)?.is_none() {
        return Err(Error::Manifest {
            label: shared.label.clone(),
            reason: format!(
                "the extents that it names for {} give another checksum (CRC-32C) than the server's",
                content.path()
            ),
        });
    }
    shared.watermark().finish(content.number);
    Ok(())
}

fn given_up() -> Error {
    Error::Thread("the restore was given up".to_owned())
}

fn content_error(piece: Option<&Piece>, source: highwater_repository::Error) -> Error {
    match piece {
        Some(piece) => Error::Content { path: piece.file.path(), source: Box::new(source) },
        None => Error::Repository(source),
    }
}
