//! Panics of helping threads in a program that has more important work.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The name of every thread that works for callers.
pub const HELPER_THREAD: &str = "helper";

static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// From here on a panic in a thread named [`HELPER_THREAD`] is told as any other, and stops that thread alone.
///
/// Where a panic ends the process (`panic = "abort"`), that happens behind the hook: this one does not come back. The thread
/// keeps what it has, locks too: whoever might wait for those looks at [`has_panicked`] first.
pub fn contain_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            tell(panic);
            if thread::current().name() == Some(HELPER_THREAD) {
                HAS_PANICKED.store(true, Ordering::Release);
                loop {
                    thread::park();
                }
            }
        }));
    });
}

/// Whether a helping thread has stopped so. Nobody is to be helped any more then.
pub fn has_panicked() -> bool {
    HAS_PANICKED.load(Ordering::Acquire)
}
