//! What threads have in common, and waiting until it changes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::SIGN_OF_LIFE;

/// A state that one thread changes and others wait for.
#[derive(Debug, Default)]
pub struct Shared<S> {
    state: Mutex<S>,
    changed: Condvar,
}

impl<S> Shared<S> {
    /// The state, for this thread alone.
    pub fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same where nobody else has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, S>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Lets those who wait look again.
    pub fn tell_all(&self) {
        self.changed.notify_all();
    }

    /// Waits until there may be something new. Every [`SIGN_OF_LIFE`] it asks `is_wanted`, while others have the state: `None` when it
    /// is not.
    pub fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, S>,
        is_wanted: &mut impl FnMut() -> bool,
    ) -> Option<MutexGuard<'a, S>> {
        let (woken, waited) =
            self.changed.wait_timeout(state, SIGN_OF_LIFE).unwrap_or_else(PoisonError::into_inner);
        if !waited.timed_out() {
            return Some(woken);
        }
        drop(woken);
        is_wanted().then(|| self.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn who_waits_is_woken_or_not_wanted_any_more() {
        let shared = Shared::<bool>::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                *shared.lock() = true;
                shared.tell_all();
            });
            let mut state = shared.lock();
            while !*state {
                state = shared.wait(state, &mut || true).unwrap();
            }
        });
        let mut asked = 0;
        let mut is_wanted = || {
            asked += 1;
            assert!(shared.try_lock().is_some(), "others have the state meanwhile");
            false
        };
        // Woken without a reason, it would have to wait once more.
        while shared.wait(shared.lock(), &mut is_wanted).is_some() {}
        assert_eq!(asked, 1);
    }
}
