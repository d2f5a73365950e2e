//! What the restored server's `postgresql.auto.conf` says, and how texts are quoted for it.

mod merge;
mod quote;

use highwater_catalog::{Plan, Stop, Target};
use highwater_repository::marker::Kind;
use highwater_wal::Lsn;

pub(crate) use merge::merge;
pub use quote::RestoreCommand;
pub(crate) use quote::shell_word;

use crate::options::{Action, Options, Role};

/// A setting's name and value, not quoted.
pub(crate) type Setting = (&'static str, String);

/// What belongs to an earlier recovery, or to a standby that the backup was taken from, and would change this one.
const EARLIER: [(&str, &str); 3] =
    [("recovery_end_command", ""), ("archive_cleanup_command", ""), ("recovery_min_apply_delay", "0")];

/// Every recovery target. PostgreSQL refuses to start with two of them (`error_multiple_recovery_targets`), and one may stand in
/// a `postgresql.conf` that came with the backup.
const NO_TARGET: [(&str, &str); 5] = [
    ("recovery_target", ""),
    ("recovery_target_name", ""),
    ("recovery_target_time", ""),
    ("recovery_target_xid", ""),
    ("recovery_target_lsn", ""),
];

/// What keeps a copy away from its original: it must not archive (R5), follow the original's primary, wait for
/// the original's standbys, take the original's place as a subscriber, or replace the file with the original's process id.
const APART: [(&str, &str); 6] = [
    ("archive_mode", "off"),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("synchronous_standby_names", ""),
    ("max_logical_replication_workers", "0"),
    // An empty name would be opened, and the server would complain of it at each start. It lies in the data directory, and
    // the server removes it when it ends.
    ("external_pid_file", "highwater.clone.pid"),
];

/// The names of the settings by which a restored clone is kept apart from its original.
pub fn settings_of_a_clone() -> impl Iterator<Item = &'static str> {
    APART.iter().map(|(name, _)| *name)
}

/// What says where recovery stops, and what then.
const TARGET: [&str; 5] = [
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_inclusive",
    "recovery_target_action",
    "recovery_target_timeline",
];

/// The names of the settings that say where a restored server stops: to be taken back once it runs.
pub fn settings_of_a_target() -> impl Iterator<Item = &'static str> {
    TARGET.into_iter()
}

/// The settings for a plan, in the order in which they have to stand: a target that is set must come behind those that
/// are not, since each assignment is checked against the target known so far (`assign_recovery_target_…`, PostgreSQL 15).
pub(crate) fn settings(plan: &Plan, options: &Options, major: u32) -> Vec<Setting> {
    let fixed = |(name, value): (&'static str, &str)| (name, value.to_owned());
    let mut all: Vec<Setting> =
        vec![("restore_command", options.restore_command.text(&until(plan, options.role)))];
    all.extend(EARLIER.map(fixed));
    all.extend(NO_TARGET.map(fixed));
    if follows(plan, options.role) {
        all.push(("recovery_target_timeline", "latest".to_owned()));
    } else {
        all.push(("recovery_target_timeline", plan.timeline.to_string()));
        all.push(("recovery_target_action", options.action.as_str().to_owned()));
        match plan.stop {
            Stop::Consistent => all.push(("recovery_target", "immediate".to_owned())),
            Stop::Record { lsn, inclusive } => {
                all.push(("recovery_target_inclusive", if inclusive { "on" } else { "off" }.to_owned()));
                all.push(("recovery_target_lsn", lsn.to_string()));
            }
        }
        if major >= FIRST_TO_READ_AHEAD && must_not_read_ahead(plan) {
            all.push(("recovery_prefetch", "off".to_owned()));
        }
        if options.action == Action::Pause {
            // Without it nobody could look at the paused server, and PostgreSQL would shut it down instead.
            all.push(("hot_standby", "on".to_owned()));
        }
    }
    if options.kind == Kind::Clone {
        all.extend(APART.map(fixed));
    }
    all
}

/// What tells the command that fetches WAL how far recovery goes, where that is needed: of a segment whose end is missing it hands over
/// what is there to nobody who might come to its end and take that for the end of the WAL (R6).
fn until(plan: &Plan, role: Role) -> Vec<String> {
    if plan.in_pieces.is_none() || follows(plan, role) {
        return Vec::new();
    }
    let until = match plan.stop {
        Stop::Record { lsn, .. } => lsn,
        // Behind the last byte that it needs.
        Stop::Consistent => Lsn(plan.backup.stop.0.saturating_sub(1)),
    };
    vec!["--until".to_owned(), until.to_string()]
}

/// From this major version on a server reads WAL ahead of what it replays (`recovery_prefetch`).
const FIRST_TO_READ_AHEAD: u32 = 15;

/// Whether a server that reads ahead may ask for a segment behind its stop that is missing while later ones are there. The command
/// that fetches it refuses that (R6), and the server would end. Retention leaves such holes behind the backups that it keeps, perhaps
/// only after this restore: so one that stops as soon as it is consistent never reads ahead, and loses nothing by it. Elsewhere reading
/// ahead makes replay faster, and stays on.
fn must_not_read_ahead(plan: &Plan) -> bool {
    plan.hole_behind.is_some() || plan.stop == Stop::Consistent
}

/// Whether the server is to go on applying WAL without an end: a standby for which no moment was named.
pub(crate) fn follows(plan: &Plan, role: Role) -> bool {
    role == Role::Standby && plan.request.target == Target::Latest
}

#[cfg(test)]
mod tests {
    use highwater_catalog::Hole;
    use highwater_wal::SegmentName;

    use super::*;
    use crate::options::tests::{options, plan};

    fn value<'s>(settings: &'s [Setting], name: &str) -> Option<&'s str> {
        let mut found = settings.iter().filter(|(known, _)| *known == name);
        found.next_back().map(|(_, value)| value.as_str())
    }

    #[test]
    fn r15_a_server_that_might_come_to_a_hole_reads_nothing_ahead() {
        let whole = plan(Target::Xid(7));
        let first: SegmentName = "000000030000000000000004".parse().unwrap();
        let hole = Some(Hole::of(first, first, 1));
        let before_a_hole = Plan { hole_behind: hole, ..whole.clone() };
        let consistent = Plan { stop: Stop::Consistent, ..whole.clone() };
        for (plan, major, expected) in [
            (&whole, 18, None),
            (&before_a_hole, 18, Some("off")),
            (&before_a_hole, 15, Some("off")),
            // It knows no such setting, and would not start.
            (&before_a_hole, 14, None),
            (&consistent, 15, Some("off")),
        ] {
            assert_eq!(value(&settings(plan, &options(), major), "recovery_prefetch"), expected);
        }
    }

    #[test]
    fn r06_who_stops_in_a_segment_that_is_there_in_pieces_says_so_to_the_command_that_fetches_it() {
        let stop = Stop::Record { lsn: Lsn(0x400_0100), inclusive: true };
        let first: SegmentName = "000000030000000000000004".parse().unwrap();
        let between = Some(Hole::of(first, first, 1));
        let pieces = Some(Lsn(0x400_0200));
        let standby = || Options { role: Role::Standby, ..options() };
        for (target, options, in_pieces, hole_behind, expected) in [
            (Target::Xid(7), options(), None, None, false),
            (Target::Xid(7), options(), None, between.clone(), false),
            (Target::Xid(7), options(), pieces, between.clone(), true),
            // What shows that the WAL went on may come before the server starts.
            (Target::Xid(7), options(), pieces, None, true),
            (Target::Latest, options(), pieces, None, true),
            (Target::Xid(7), standby(), pieces, None, true),
            // It stops nowhere.
            (Target::Latest, standby(), pieces, None, false),
        ] {
            let plan = Plan { stop, in_pieces, hole_behind, ..plan(target) };
            let settings = settings(&plan, &options, 15);
            let command = value(&settings, "restore_command").unwrap_or_default();
            assert_eq!(command.contains(" --until 0/4000100 %f %p"), expected, "{command}");
        }
    }

    #[test]
    fn r15_the_stop_is_handed_over_as_the_plan_says() {
        let record = |inclusive| Stop::Record { lsn: Lsn(0x1_0200_0028), inclusive };
        for (stop, target, lsn, inclusive) in [
            (record(true), "", "1/2000028", Some("on")),
            (record(false), "", "1/2000028", Some("off")),
            (Stop::Consistent, "immediate", "", None),
        ] {
            let plan = Plan { stop, ..plan(Target::Latest) };
            let all = settings(&plan, &options(), 15);
            assert_eq!(value(&all, "recovery_target"), Some(target));
            assert_eq!(value(&all, "recovery_target_lsn"), Some(lsn));
            assert_eq!(value(&all, "recovery_target_inclusive"), inclusive);
            assert_eq!(value(&all, "recovery_target_timeline"), Some("3"));
            assert_eq!(value(&all, "recovery_target_action"), Some("promote"));
            for other in ["recovery_target_name", "recovery_target_time", "recovery_target_xid"] {
                assert_eq!(value(&all, other), Some(""));
            }
            let set = |(name, value): &Setting| {
                let is_target = NO_TARGET.iter().any(|(known, _)| known == name);
                is_target.then_some(!value.is_empty())
            };
            let order: Vec<bool> = all.iter().filter_map(set).collect();
            assert!(order.is_sorted(), "the target stands behind those that are not set");
        }
    }

    #[test]
    fn r05_a_clone_is_kept_from_archiving_and_a_takeover_is_not() {
        let clone = settings(&plan(Target::Latest), &options(), 15);
        assert_eq!(value(&clone, "archive_mode"), Some("off"));
        assert_eq!(value(&clone, "primary_conninfo"), Some(""));
        let takeover = Options { kind: Kind::Takeover, ..options() };
        let takeover = settings(&plan(Target::Latest), &takeover, 15);
        for (name, _) in APART {
            assert_eq!(value(&takeover, name), None, "{name}");
        }
    }

    #[test]
    fn a_standby_without_a_moment_follows() {
        let standby = Options { role: Role::Standby, ..options() };
        let follows = settings(&plan(Target::Latest), &standby, 15);
        assert_eq!(value(&follows, "recovery_target_timeline"), Some("latest"));
        assert_eq!(value(&follows, "recovery_target_lsn"), Some(""));
        let stops = settings(&plan(Target::Xid(7)), &standby, 15);
        assert_eq!(value(&stops, "recovery_target_timeline"), Some("3"));
    }

    #[test]
    fn a_paused_server_can_be_looked_at() {
        let paused = Options { action: Action::Pause, ..options() };
        assert_eq!(value(&settings(&plan(Target::Latest), &paused, 15), "hot_standby"), Some("on"));
        assert_eq!(value(&settings(&plan(Target::Latest), &options(), 15), "hot_standby"), None);
    }
}
