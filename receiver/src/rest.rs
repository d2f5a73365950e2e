//! When what comes is let lie for a moment. No I/O, no clock.
//!
//! A server sends WAL flush by flush: under many small transactions thousands of messages a second, and to be woken for one of them
//! costs more than all else that is done with it. Where nobody waits for an answer, many are taken at once.

use std::time::Duration;

use crate::progress::Policy;

/// The longest rest. What a server sends meanwhile has room in a socket's memory, or the server puts it together.
const LONGEST: Duration = Duration::from_millis(25);
/// A rest is so small a part of the time that WAL may wait anyway.
const PART_OF_INTERVAL: u32 = 20;
/// What is shorter is none: timers count milliseconds.
const SHORTEST: Duration = Duration::from_millis(2);

/// So many bytes are taken before something else has its turn.
pub(crate) const PASS_BYTES: u64 = 1 << 20;

/// What one look at the stream has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// All that had come was taken.
    pub(crate) is_drained: bool,
    /// The server had more WAL than it had sent.
    pub(crate) is_behind: bool,
    /// The server waits to hear that its WAL is durable.
    pub(crate) is_awaited: bool,
}

/// How long nothing is read behind a pass; `None` for not at all.
pub(crate) fn rest_after(policy: &Policy, pass: Pass) -> Option<Duration> {
    let length = (policy.flush_interval / PART_OF_INTERVAL).min(LONGEST);
    let may_rest = !policy.synchronous && pass.is_drained && !pass.is_behind && !pass.is_awaited;
    (may_rest && length >= SHORTEST).then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every(millis: u64, synchronous: bool) -> Policy {
        Policy { flush_interval: Duration::from_millis(millis), synchronous, ..Policy::default() }
    }

    const QUIET: Pass = Pass { is_drained: true, is_behind: false, is_awaited: false };

    #[test]
    fn a_rest_is_short_beside_the_interval() {
        for (interval, rest) in [(10, None), (39, None), (40, Some(2)), (200, Some(10)), (1000, Some(25))] {
            let rest = rest.map(Duration::from_millis);
            assert_eq!(rest_after(&every(interval, false), QUIET), rest, "{interval} ms");
        }
    }

    proptest! {
        #[test]
        fn r18_nobody_who_waits_waits_for_a_rest(
            millis in 10_u64..3_600_000,
            synchronous in any::<bool>(),
            flags in any::<[bool; 3]>(),
        ) {
            let [is_drained, is_behind, is_awaited] = flags;
            let policy = every(millis, synchronous);
            let rest = rest_after(&policy, Pass { is_drained, is_behind, is_awaited });
            if synchronous || is_awaited || is_behind || !is_drained {
                prop_assert_eq!(rest, None);
            }
            if let Some(rest) = rest {
                prop_assert!(rest <= policy.flush_interval / 20 && rest <= LONGEST && rest >= SHORTEST);
            }
        }
    }
}
