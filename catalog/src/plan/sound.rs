//! Backups that verifications have found damaged. No way leads from one while another backup serves: that it is damaged would show when
//! most of it is written.

use super::{Plan, Unsettled};
use crate::facts::Known;
use crate::{Inventory, Request, Unreachable};

/// The same way from a backup that is not known to be damaged, where this one is; `decide` finds a way.
///
/// # Errors
/// [`Unreachable::FoundDamaged`] where only damaged ones lead there, unless that one was named.
pub(super) fn prefer(
    inventory: &Inventory,
    request: &Request,
    known: &Known,
    mut plan: Plan,
    decide: impl Fn(&Inventory, &Request, &Known) -> Result<Plan, Unsettled>,
) -> Result<Plan, Unsettled> {
    let label = plan.backup.label.clone();
    let Some(damage) = inventory.found_damaged.get(&label) else { return Ok(plan) };
    if request.backup.is_some() {
        plan.notes.push(format!(
            "WARNING: backup {label} was asked for by name, and {damage}: a restore from it may end before it is complete"
        ));
        return Ok(plan);
    }
    let mut sound = inventory.clone();
    sound.backups.retain(|backup| !inventory.found_damaged.contains_key(&backup.label));
    match decide(&sound, request, known) {
        Ok(mut other) => {
            other.notes.push(format!(
                "backup {label} is newer and was passed over: {damage}; --backup {label} starts from it all the same"
            ));
            Ok(other)
        }
        Err(Unsettled::Unreachable(_)) => {
            let (target, damage) = (request.target.clone(), damage.clone());
            Err(Unreachable::FoundDamaged { target, label, damage }.into())
        }
        Err(need) => Err(need),
    }
}

#[cfg(test)]
mod tests {
    use highwater_wal::{Lsn, Timestamp};

    use super::super::tests::{Kind, Rec, World, size, tli};
    use super::*;
    use crate::{Backup, Target, plan};

    fn backup(label: &str, number: u64) -> Backup {
        let at = number * size().bytes();
        Backup {
            label: label.to_owned(),
            timeline: tli(1),
            start: Lsn(at + 40),
            stop: Lsn(at + 400),
            start_time: Timestamp(0),
            stop_time: Timestamp(0),
            size_bytes: 1,
            stored_bytes: 1,
            parent: None,
            id: String::new(),
        }
    }

    #[test]
    fn r12_a_backup_that_was_found_damaged_is_passed_over_or_named() {
        let record = |number: u64| {
            let at = number * size().bytes();
            Rec { lsn: Lsn(at + 40), end: Lsn(at + size().bytes()), kind: Kind::Other }
        };
        let world = World {
            records: vec![(tli(1), (1..6).map(record).collect())],
            fork: None,
            backups: [("old", 1), ("middle", 2), ("new", 3)].map(|(label, at)| backup(label, at)).to_vec(),
            missing: Vec::new(),
            monotone: true,
        };
        let inventory = world.inventory();
        let ask = |inventory: &Inventory, named: Option<&str>| {
            let request = Request { backup: named.map(str::to_owned), ..Request::new(Target::Immediate) };
            let mut known = Known::default();
            for _ in 0..100 {
                match plan(inventory, &request, &known) {
                    Err(Unsettled::Need(need)) => world.answer(&need, inventory, &mut known),
                    Err(Unsettled::Unreachable(reason)) => return Err(reason),
                    Ok(plan) => return Ok((plan.backup.label, plan.notes.join("; "))),
                }
            }
            panic!("it does not settle");
        };
        assert_eq!(ask(&inventory, None), Ok(("new".to_owned(), String::new())));
        let found = |labels: &[&str]| {
            let mut inventory = inventory.clone();
            let found = labels.iter().map(|label| ((*label).to_owned(), "it lacks a pack".to_owned()));
            inventory.found_damaged = found.collect();
            inventory
        };
        assert_eq!(ask(&found(&["old"]), None), Ok(("new".to_owned(), String::new())));
        let (label, notes) = ask(&found(&["middle", "new"]), None).unwrap();
        assert_eq!(label, "old");
        assert!(notes.contains("backup new is newer and was passed over: it lacks a pack"), "{notes}");
        let (label, notes) = ask(&found(&["new"]), Some("new")).unwrap();
        assert!(label == "new" && notes.contains("WARNING") && notes.contains("it lacks a pack"), "{notes}");
        let refused = ask(&found(&["old", "middle", "new"]), None).unwrap_err();
        let message = refused.to_string();
        assert!(matches!(refused, Unreachable::FoundDamaged { .. }), "{message}");
        assert!(message.contains("backup new") && message.contains("hint:"), "{message}");
    }
}
