//! Memory for segments that is used again: fresh memory costs about as much as unpacking what goes into it.

use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that wait for the next segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// A buffer of this length. What is in it means nothing.
    pub fn lend(&self, length: usize) -> WalBytes {
        let mut bytes = self.idle().pop().unwrap_or_default();
        bytes.resize(length, 0);
        WalBytes { bytes, start: 0, home: Some(self.clone()) }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a segment. A buffer that was lent goes back when they are dropped.
#[derive(Debug)]
pub(super) struct WalBytes {
    bytes: Vec<u8>,
    start: usize,
    home: Option<Buffers>,
}

impl WalBytes {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Leaves out the first `count`.
    pub fn skip(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
    }
}

impl AsRef<[u8]> for WalBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl AsMut<[u8]> for WalBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl From<Vec<u8>> for WalBytes {
    fn from(bytes: Vec<u8>) -> WalBytes {
        WalBytes { bytes, start: 0, home: None }
    }
}

impl Drop for WalBytes {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.idle().push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_again_and_at_the_length_that_is_asked_for() {
        let buffers = Buffers::default();
        let mut first = buffers.lend(10);
        first.as_mut().copy_from_slice(b"0123456789");
        first.skip(4);
        assert_eq!((first.as_ref(), first.len()), (&b"456789"[..], 6));
        first.skip(100);
        assert_eq!(first.len(), 0);
        let second = buffers.lend(5);
        drop((first, second));
        assert_eq!(buffers.idle().len(), 2);
        let (longer, shorter) = (buffers.lend(12), buffers.lend(3));
        assert_eq!((longer.len(), shorter.len(), buffers.idle().len()), (12, 3, 0));
        drop((longer, shorter));
        drop(WalBytes::from(vec![1]));
        assert_eq!(buffers.idle().len(), 2);
    }
}
