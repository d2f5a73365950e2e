//! What can be compared cheaply before anything is written: that manifest, plan and the backup's own files speak of
//! the same backup (R12).

use highwater_catalog::Plan;
use highwater_repository::manifest::{ManifestHead, PostgresBackup};
use highwater_wal::{Lsn, SystemId, TimelineId};

/// Length of `global/pg_control` (`PG_CONTROL_FILE_SIZE`, pg_control.h).
const CONTROL_BYTES: usize = 8192;

/// The facts of a backup of PostgreSQL, if they are those that the plan was made by. The error says what differs.
pub(crate) fn check_head<'h>(
    head: &'h ManifestHead,
    plan: &Plan,
    system_id: SystemId,
) -> Result<&'h PostgresBackup, String> {
    let Some(facts) = &head.postgres else { return Err("it is no backup of PostgreSQL".to_owned()) };
    let table = [
        ("system identifier", facts.system_id.to_string(), system_id.to_string()),
        ("start", facts.start_lsn.to_string(), plan.backup.start.to_string()),
        ("stop", facts.stop_lsn.to_string(), plan.backup.stop.to_string()),
        ("time of its stop", facts.stop_time.to_string(), plan.backup.stop_time.to_string()),
    ];
    match table.into_iter().find(|(_, manifest, plan)| manifest != plan) {
        Some((what, manifest, plan)) => {
            Err(format!("its {what} is {manifest}, and the plan was made with {plan}"))
        }
        None => Ok(facts),
    }
}

/// Whether `pg_control` is one, and of this cluster: it begins with the system identifier (`ControlFileData`), in the byte
/// order of the machine.
pub(crate) fn check_control(content: &[u8], system_id: SystemId) -> Result<(), String> {
    let Some(first) = content.first_chunk().filter(|_| content.len() == CONTROL_BYTES) else {
        return Err(format!("global/pg_control has {} bytes", content.len()));
    };
    let found = [u64::from_le_bytes(*first), u64::from_be_bytes(*first)];
    if found.contains(&system_id.0) {
        return Ok(());
    }
    Err(format!("global/pg_control is of the cluster with system identifier {}", found[0]))
}

/// Whether `backup_label` begins recovery where the manifest says.
pub(crate) fn check_backup_label(content: &[u8], facts: &PostgresBackup) -> Result<(), String> {
    let text = String::from_utf8_lossy(content);
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|line| line.split_whitespace().next())
    };
    let start: Option<Lsn> = field("START WAL LOCATION").and_then(|text| text.parse().ok());
    let timeline: Option<TimelineId> = field("START TIMELINE").and_then(|text| text.parse().ok());
    match (start, timeline) {
        (Some(start), Some(timeline)) if start == facts.start_lsn && timeline == facts.timeline => Ok(()),
        (Some(start), Some(timeline)) => Err(format!(
            "backup_label says that recovery begins at {start} on timeline {timeline}, and the manifest at {} on {}",
            facts.start_lsn, facts.timeline
        )),
        _ => Err("backup_label does not say where recovery begins".to_owned()),
    }
}

/// Whether `PG_VERSION` is the major version that the manifest says; gives it.
pub(crate) fn check_version(content: &[u8], facts: &PostgresBackup) -> Result<u32, String> {
    let major = facts.server_version / 10_000;
    let text = String::from_utf8_lossy(content);
    if text.trim() == major.to_string() {
        return Ok(major);
    }
    Err(format!("PG_VERSION says {}, and the manifest {major}", text.trim()))
}

#[cfg(test)]
pub(crate) mod tests {
    use highwater_catalog::Target;
    use highwater_repository::manifest::Totals;
    use highwater_wal::{SegmentSize, Timestamp};

    use super::*;
    use crate::options::tests::plan;

    pub(crate) fn head() -> ManifestHead {
        let plan = plan(Target::Latest);
        ManifestHead {
            version: ManifestHead::VERSION,
            label: plan.backup.label.parse().unwrap(),
            host: "here".to_owned(),
            program: "highwater".to_owned(),
            begun_at: Timestamp(0),
            finished_at: Timestamp(9),
            parent: None,
            totals: Totals::default(),
            parts: Vec::new(),
            postgres: Some(PostgresBackup {
                system_id: SystemId(7),
                server_version: 150_006,
                segment_size: SegmentSize::DEFAULT,
                timeline: plan.backup.timeline,
                start_lsn: plan.backup.start,
                checkpoint_lsn: plan.backup.start,
                start_time: plan.backup.start_time,
                stop_timeline: plan.backup.timeline,
                stop_lsn: plan.backup.stop,
                stop_time: plan.backup.stop_time,
                from_standby: false,
                tablespaces: Vec::new(),
            }),
        }
    }

    #[test]
    fn r12_a_manifest_that_the_plan_was_not_made_by_is_refused() {
        let plan = plan(Target::Latest);
        check_head(&head(), &plan, SystemId(7)).unwrap();
        assert!(check_head(&head(), &plan, SystemId(8)).unwrap_err().contains("system identifier"));
        let changed = |change: fn(&mut PostgresBackup)| {
            let mut head = head();
            head.postgres.as_mut().into_iter().for_each(change);
            check_head(&head, &plan, SystemId(7)).unwrap_err()
        };
        assert!(changed(|facts| facts.start_lsn = Lsn(1)).contains("start"));
        assert!(changed(|facts| facts.stop_lsn = Lsn(1)).contains("stop"));
        assert!(changed(|facts| facts.stop_time = Timestamp(1)).contains("time of its stop"));
        assert!(check_head(&ManifestHead { postgres: None, ..head() }, &plan, SystemId(7)).is_err());
    }

    #[test]
    fn r12_files_of_another_backup_are_refused() {
        let head = head();
        let facts = head.postgres.as_ref().unwrap();
        let control = |id: u64| [&id.to_le_bytes()[..], &[0; CONTROL_BYTES - 8]].concat();
        check_control(&control(7), SystemId(7)).unwrap();
        check_control(&control(7_u64.swap_bytes()), SystemId(7)).unwrap();
        assert!(check_control(&control(8), SystemId(7)).unwrap_err().contains("system identifier 8"));
        assert!(check_control(&control(7)[..100], SystemId(7)).is_err());
        assert!(check_control(b"", SystemId(7)).is_err());

        let label = |start: &str, timeline: u32| {
            format!(
                "START WAL LOCATION: {start} (file 000000030000000000000002)\nLABEL: x\nSTART TIMELINE: {timeline}\n"
            )
        };
        check_backup_label(label("0/2000028", 3).as_bytes(), facts).unwrap();
        for (start, timeline) in [("0/2000029", 3), ("0/2000028", 2), ("x", 3), ("0/2000028", 0)] {
            assert!(check_backup_label(label(start, timeline).as_bytes(), facts).is_err());
        }
        assert!(check_backup_label(b"", facts).is_err());

        assert_eq!(check_version(b"15\n", facts), Ok(15));
        assert!(check_version(b"14\n", facts).is_err());
    }
}
