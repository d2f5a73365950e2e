//! Why a timeline came to be, as its history file tells.

use std::fmt;

use highwater_wal::{Ancestor, Lsn, TimelineHistory, TimelineId};
use serde::Serialize;

/// Where and why a timeline began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fork {
    /// The timeline it left.
    pub timeline: TimelineId,
    /// Where.
    pub lsn: Lsn,
    /// What its history file gives as the reason.
    pub reason: String,
    /// What that means.
    pub cause: Cause,
}

/// What made a timeline begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A standby was promoted, or a recovery without a target came to the end of its WAL.
    Promotion,
    /// A recovery stopped at a target.
    RecoveryTarget,
    /// The history gives no reason that is known.
    Unknown,
}

impl Fork {
    /// What a history's line says of the timeline that follows it.
    pub(crate) fn of(ancestor: &Ancestor) -> Fork {
        let reason = ancestor.reason.clone();
        Fork { timeline: ancestor.timeline, lsn: ancestor.switch_point, cause: Cause::of(&reason), reason }
    }

    /// How the timeline that a history belongs to began; `None` where it has no ancestors.
    pub(crate) fn of_history(history: &TimelineHistory) -> Option<Fork> {
        history.ancestors.last().map(Fork::of)
    }

    /// The steps by which a path came to be, oldest first, each with the timeline that began.
    pub(crate) fn steps(history: &TimelineHistory) -> Vec<(TimelineId, Fork)> {
        let later = history.ancestors.iter().skip(1).map(|ancestor| ancestor.timeline);
        let began = later.chain([history.timeline]);
        began.zip(history.ancestors.iter().map(Fork::of)).collect()
    }
}

impl Cause {
    /// From the words that PostgreSQL writes (`getRecoveryStopReason`, xlogrecovery.c, PostgreSQL 15).
    fn of(reason: &str) -> Cause {
        match reason {
            "no recovery target specified" => Cause::Promotion,
            "reached consistency" => Cause::RecoveryTarget,
            _ if ["before ", "after ", "at restore point "].iter().any(|begin| reason.starts_with(begin)) => {
                Cause::RecoveryTarget
            }
            _ => Cause::Unknown,
        }
    }
}

impl fmt::Display for Fork {
    /// In a clause, without the timeline and the place: `promotion`, `recovery target: before 2026-…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cause, self.reason.trim()) {
            (Cause::Promotion, _) => f.write_str("promotion"),
            (Cause::RecoveryTarget, reason) => write!(f, "recovery target: {reason}"),
            (Cause::Unknown, "") => f.write_str("its history gives no reason"),
            (Cause::Unknown, reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_words() {
        for (reason, cause, text) in [
            ("no recovery target specified", Cause::Promotion, "promotion"),
            (
                "before 2026-11-20 18:05:01.5+00",
                Cause::RecoveryTarget,
                "recovery target: before 2026-11-20 18:05:01.5+00",
            ),
            ("after transaction 733", Cause::RecoveryTarget, "recovery target: after transaction 733"),
            ("before LSN 0/3000060", Cause::RecoveryTarget, "recovery target: before LSN 0/3000060"),
            ("at restore point \"x\"", Cause::RecoveryTarget, "recovery target: at restore point \"x\""),
            ("reached consistency", Cause::RecoveryTarget, "recovery target: reached consistency"),
            ("", Cause::Unknown, "its history gives no reason"),
            ("by hand", Cause::Unknown, "by hand"),
        ] {
            let ancestor =
                Ancestor { timeline: TimelineId::FIRST, switch_point: Lsn(1), reason: reason.to_owned() };
            let fork = Fork::of(&ancestor);
            assert_eq!((fork.cause, fork.to_string().as_str()), (cause, text));
        }
    }

    #[test]
    fn each_step_names_the_timeline_that_began() {
        let history = TimelineHistory::parse(
            TimelineId::new(7).unwrap_or(TimelineId::FIRST),
            "1\t0/3000060\tno recovery target specified\n4\t0/5000060\tafter transaction 9\n",
        );
        let history = history.unwrap_or_else(|error| panic!("{error}"));
        let steps: Vec<_> =
            Fork::steps(&history).iter().map(|(began, fork)| (began.get(), fork.timeline.get())).collect();
        assert_eq!(steps, [(4, 1), (7, 4)]);
        assert_eq!(Fork::of_history(&history).map(|fork| fork.timeline.get()), Some(4));
    }
}
