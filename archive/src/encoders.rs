//! How many files are checked and compressed at once.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many files are checked and compressed at once.
#[derive(Debug)]
pub(crate) struct Encoders {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Encoders {
    /// So many.
    pub fn new(count: usize) -> Encoders {
        Encoders { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Waits until there are fewer; it counts until the answer is dropped.
    pub fn turn(&self) -> Turn<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Turn(self)
    }
}

/// The right to work on a file.
pub(crate) struct Turn<'a>(&'a Encoders);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
