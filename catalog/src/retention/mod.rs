//! Retention: what may go, and what stays and why (R19, R20).
//!
//! [`decide()`] is a plain function over what is there, what is marked and held, the rules and the time. It carries nothing out,
//! and it looks at no mark when it chooses what stays: so a second run decides the same, and a mark that the rules no longer
//! bear out is taken back.
//!
//! - `rules`: what somebody has set
//! - `promise`: which backups and which WAL keep the promised moments within reach
//! - `needed`: which WAL stays
//! - `verdict`: what comes of one backup
//! - `holdings`: what there is

mod decide;
mod holdings;
mod needed;
mod promise;
mod rules;
mod verdict;

pub use decide::{Decision, decide};
pub use holdings::{Clock, Complete, Damaged, Holdings, Incomplete};
pub use needed::NeededWal;
pub use rules::{DAY, Period, Rules};
pub use verdict::{Fate, Reason, State, Verdict};

#[cfg(test)]
mod tests;
