//! Content that is read block by block while it is compressed, and shown in order to whoever checks it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Plain bytes that can be read at any place, from several threads.
pub trait Content: Sync {
    /// How many bytes there are.
    fn length(&self) -> u64;

    /// The `length` bytes from `offset` on: those bytes themselves, or `buffer` filled with them.
    ///
    /// # Errors
    /// Those of reading; also when there are not so many.
    fn block<'a>(&'a self, offset: u64, length: usize, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]>;
}

impl Content for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn block<'a>(&'a self, offset: u64, length: usize, _: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let block = usize::try_from(offset).ok().and_then(|start| self.get(start..)?.get(..length));
        block.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// What is in a file, as long as it was found to be, or a part of it.
#[derive(Debug)]
pub struct FileContent {
    file: File,
    start: u64,
    length: u64,
}

impl FileContent {
    /// The first `length` bytes of `file`.
    pub fn new(file: File, length: u64) -> FileContent {
        FileContent { file, start: 0, length }
    }

    /// What lies behind its first `bytes` bytes.
    pub(crate) fn behind(self, bytes: u64) -> FileContent {
        let skipped = bytes.min(self.length);
        FileContent { file: self.file, start: self.start + skipped, length: self.length - skipped }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Content for FileContent {
    fn length(&self) -> u64 {
        self.length
    }

    fn block<'a>(&'a self, offset: u64, length: usize, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        self.file.read_exact_at(&mut buffer[..length], self.start + offset)?;
        Ok(&buffer[..length])
    }
}

/// Work that is done block by block in order, by whichever thread has the block: each waits for its turn.
pub(super) struct InOrder<W> {
    state: Mutex<State<W>>,
    turned: Condvar,
}

struct State<W> {
    next: usize,
    has_failed: bool,
    work: W,
}

impl<W: FnMut(&[u8])> InOrder<W> {
    pub(super) fn new(work: W) -> InOrder<W> {
        InOrder { state: Mutex::new(State { next: 0, has_failed: false, work }), turned: Condvar::new() }
    }

    /// Does the work for block `index`, after those before it. False when one of them has failed.
    pub(super) fn show(&self, index: usize, block: &[u8]) -> bool {
        let failing = Failing(self);
        let mut state = self.lock();
        while state.next != index && !state.has_failed {
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.has_failed {
            return false;
        }
        (state.work)(block);
        state.next += 1;
        drop(state);
        std::mem::forget(failing);
        self.turned.notify_all();
        true
    }

    /// Lets nobody wait for a block that will not come.
    pub(super) fn fail(&self) {
        self.lock().has_failed = true;
        self.turned.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that is doing its work: should that panic, the others do not wait for it.
struct Failing<'a, W: FnMut(&[u8])>(&'a InOrder<W>);

impl<W: FnMut(&[u8])> Drop for Failing<'_, W> {
    fn drop(&mut self) {
        self.0.fail();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn blocks_are_shown_in_order_whoever_has_them() {
        let mut seen = Vec::new();
        let in_order = InOrder::new(|block: &[u8]| seen.push(block[0]));
        thread::scope(|scope| {
            for start in [2_u8, 0, 1] {
                let in_order = &in_order;
                scope.spawn(move || {
                    assert!((start..90).step_by(3).all(|index| in_order.show(index.into(), &[index])))
                });
            }
        });
        assert_eq!(seen, (0..90).collect::<Vec<u8>>());
    }

    #[test]
    fn nobody_waits_for_a_block_that_does_not_come() {
        let in_order = InOrder::new(|block: &[u8]| assert!(!block.is_empty()));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| in_order.show(1, &[1]));
            let panicking = scope.spawn(|| in_order.show(0, &[]));
            assert!(panicking.join().is_err());
            assert!(!waiting.join().unwrap());
        });
        assert!(!in_order.show(2, &[2]));
    }
}
