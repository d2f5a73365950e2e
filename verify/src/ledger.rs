//! What is known against backups and segments when a verification ends: what it found itself, and what earlier ones found that it has not
//! looked at again. Pure.

use std::collections::BTreeMap;

use highwater_catalog::Inventory;
use highwater_repository::{BackupDamage, DamagedWal, FoundDamage, JudgedBackup, label_of_backup};
use highwater_wal::{SegmentName, TimelineId, Timestamp};

/// As many bytes of what is wrong are remembered for each backup.
const MOST_BYTES: usize = 300;

/// What a verification itself found damaged of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blame {
    pub(crate) object: String,
    pub(crate) what: String,
    pub(crate) in_packs: bool,
}

/// How a verification has looked at a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) backup: JudgedBackup,
    /// Whether it was looked at as a whole: not as a sample, not its WAL alone.
    pub(crate) is_whole: bool,
    /// Whether a verification of what is new has read all of it that was not found right since: it was not proven before, or found damaged
    /// since.
    pub(crate) is_new: bool,
}

/// The verification that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct This {
    pub(crate) began: Timestamp,
    pub(crate) deep: bool,
    /// Since when everything was looked at that it builds on; nothing where it has looked at everything itself.
    pub(crate) since: Option<Timestamp>,
}

impl This {
    /// Whether it would have found again what was found then.
    fn would_find(self, damage: &BackupDamage, is_new: bool) -> bool {
        (self.deep || !damage.deep) && (is_new || self.since.is_none_or(|since| since > damage.found_at))
    }
}

/// What is known when it ends. `last` was known before, `blamed` is what it found, by label; `looked` are the backups that can be read, and
/// `is_there` says of a label whether a backup of it is there, readable or not.
pub(crate) fn settle(
    this: This,
    last: &FoundDamage,
    blamed: &BTreeMap<String, Blame>,
    looked: &[Looked],
    is_there: impl Fn(&str) -> bool,
) -> FoundDamage {
    let backups: Vec<JudgedBackup> = looked.iter().map(|looked| looked.backup.clone()).collect();
    // Who took extents over from one that goes has it noted for itself.
    let mut against = last.against(&backups);
    for (id, damage) in &last.backups {
        let is_readable = backups.iter().any(|backup| backup.id == *id);
        let label = label_of_backup(id);
        let is_another = backups.iter().any(|backup| backup.label == label);
        if !is_readable && !is_another && is_there(label) {
            against.insert(id.clone(), damage.clone());
        }
    }
    let mut known = FoundDamage::default();
    for Looked { backup, is_whole, is_new } in looked {
        let before = against.remove(&backup.id);
        let damage = match (blamed.get(&backup.label), before) {
            (Some(blame), before) => Some(renewed(this, blame, before)),
            (None, Some(before)) if *is_whole && this.would_find(&before, *is_new) => None,
            (None, before) => before,
        };
        match damage {
            Some(damage) => _ = known.backups.insert(backup.id.clone(), damage),
            // Else whoever asks later would take it for an heir of a damaged one.
            None if *is_whole && this.deep || last.sound.contains(&backup.id) => {
                known.sound.insert(backup.id.clone());
            }
            None => {}
        }
    }
    known.backups.extend(against);
    if known.backups.is_empty() {
        known.sound.clear();
    }
    known
}

/// The segments that are known to be damaged when it ends: those that it `found`, and those of `last` that are there still and that it has
/// not read. What `is_read` says is of this verification alone: what an earlier one had read may have been damaged since.
pub(crate) fn settle_wal<'a>(
    last: &DamagedWal,
    found: impl Iterator<Item = &'a SegmentName>,
    inventory: &Inventory,
    is_read: impl Fn(TimelineId, u64) -> bool,
) -> DamagedWal {
    let found = found.map(|name| (name.timeline, name.number(inventory.segment_size)));
    let mut all: Vec<(TimelineId, u64)> = found.collect();
    for timeline in inventory.timelines() {
        for run in last.runs_on(timeline) {
            let there = inventory.segments_on(timeline).into_iter().flat_map(|set| set.within(run.clone()));
            all.extend(there.filter(|number| !is_read(timeline, *number)).map(|number| (timeline, number)));
        }
    }
    DamagedWal::of(all)
}

fn renewed(this: This, blame: &Blame, before: Option<BackupDamage>) -> BackupDamage {
    let mut what = blame.what.clone();
    what.truncate(what.floor_char_boundary(MOST_BYTES));
    BackupDamage {
        found_at: this.began,
        // What only reading finds is still there, as far as anybody knows.
        deep: this.deep || before.as_ref().is_some_and(|before| before.deep),
        in_packs: blame.in_packs || before.is_some_and(|before| before.in_packs),
        object: blame.object.clone(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEEP: This = This { began: Timestamp(10), deep: true, since: None };
    const SHALLOW: This = This { deep: false, ..DEEP };

    fn looked(label: &str, parent: Option<&str>, is_whole: bool) -> Looked {
        let backup = JudgedBackup {
            id: format!("{label}@1"),
            label: label.to_owned(),
            parent: parent.map(str::to_owned),
        };
        Looked { backup, is_whole, is_new: false }
    }

    fn blamed(labels: &[&str]) -> BTreeMap<String, Blame> {
        let blame =
            |object: &str| Blame { object: object.to_owned(), what: "é".repeat(200), in_packs: true };
        labels.iter().map(|label| ((*label).to_owned(), blame(label))).collect()
    }

    fn damaged(known: &FoundDamage) -> Vec<&str> {
        known.backups.keys().map(|id| label_of_backup(id)).collect()
    }

    #[test]
    fn r19_damage_is_remembered_until_it_would_have_been_found_again_and_was_not() {
        let all = [looked("a", None, true), looked("b", Some("a"), true), looked("c", None, true)];
        let part = [looked("a", None, false), looked("b", Some("a"), true), looked("c", None, false)];
        let there = |_: &str| true;
        let first = settle(DEEP, &FoundDamage::default(), &blamed(&["a"]), &all, there);
        assert_eq!(damaged(&first), ["a"]);
        assert!(first.sound.contains("b@1"), "it was read and found whole");
        assert!(first.backups["a@1"].what.len() <= MOST_BYTES);
        for (what, this, blamed_now, looked, expected) in [
            ("a listing finds no flipped bit", SHALLOW, vec![], &all, vec!["a"]),
            ("it was not looked at", DEEP, vec![], &part, vec!["a"]),
            ("read again", DEEP, vec![], &all, vec![]),
            ("only what is new", This { since: Some(Timestamp(9)), ..DEEP }, vec![], &all, vec!["a"]),
            ("all since then", This { since: Some(Timestamp(11)), ..DEEP }, vec![], &all, vec![]),
            ("another one, too", SHALLOW, vec!["c"], &all, vec!["a", "c"]),
        ] {
            let known = settle(this, &first, &blamed(&blamed_now), looked, there);
            assert_eq!(damaged(&known), expected, "{what}");
        }
        // It was not left out of what is new, and is right now.
        let since = This { since: Some(Timestamp(9)), ..DEEP };
        let again: Vec<Looked> =
            all.iter().cloned().map(|looked| Looked { is_new: true, ..looked }).collect();
        assert_eq!(damaged(&settle(since, &first, &blamed(&[]), &again, there)), [""; 0]);
        // What a listing finds again keeps that reading had found more.
        let again = settle(SHALLOW, &first, &blamed(&["a"]), &all, there);
        assert_eq!(damaged(&settle(SHALLOW, &again, &blamed(&[]), &all, there)), ["a"]);
        // What a listing alone found a listing takes back.
        let listed = settle(SHALLOW, &FoundDamage::default(), &blamed(&["a"]), &all, there);
        assert_eq!(damaged(&settle(SHALLOW, &listed, &blamed(&[]), &all, there)), [""; 0]);
    }

    #[test]
    fn r12_a_damaged_segment_is_remembered_until_it_was_read_and_found_right_or_is_gone() {
        let size = highwater_wal::SegmentSize::DEFAULT;
        let first = TimelineId::FIRST;
        let name = |number: u64| SegmentName::from_number(first, number, size);
        let mut inventory = Inventory::empty("main", highwater_wal::SystemId(7), size);
        (1..=9).for_each(|number| inventory.add_segment(name(number)));
        let known = |last: &DamagedWal, found: &[u64], inventory: &Inventory, read: &[u64]| {
            let found: Vec<SegmentName> = found.iter().map(|number| name(*number)).collect();
            settle_wal(last, found.iter(), inventory, |_, number| read.contains(&number))
        };
        let of = |numbers: &[u64]| DamagedWal::of(numbers.iter().map(|number| (first, *number)));
        let all: Vec<u64> = (1..=9).collect();
        let last = known(&DamagedWal::default(), &[3, 4, 7], &inventory, &all);
        assert_eq!(last, of(&[3, 4, 7]));
        assert_eq!(known(&last, &[], &inventory, &[]), last, "nothing was read");
        assert_eq!(known(&last, &[8], &inventory, &[4, 8]), of(&[3, 7, 8]), "one was read, another found");
        assert_eq!(known(&last, &[], &inventory, &all), DamagedWal::default(), "all were mended");
        inventory.remove_segment(name(4));
        assert_eq!(known(&last, &[], &inventory, &[]), of(&[3, 7]), "what is gone is a hole");
        // A range as long as anything can be is no more work than what is there.
        let endless = serde_json::from_str(r#"{"1":[[0,18446744073709551615]]}"#).unwrap();
        assert_eq!(known(&endless, &[], &inventory, &[1, 2]), of(&[3, 5, 6, 7, 8, 9]));
    }

    #[test]
    fn r19_what_is_gone_is_forgotten_and_its_heirs_are_doubted() {
        let all = [looked("a", None, true), looked("c", None, true)];
        let first = settle(DEEP, &FoundDamage::default(), &blamed(&["a"]), &all, |_| true);
        let heir = [looked("b", Some("a"), true), looked("c", None, true)];
        let known = settle(SHALLOW, &first, &blamed(&[]), &heir, |label| label != "a");
        assert_eq!(damaged(&known), ["b"]);
        let known = settle(SHALLOW, &first, &blamed(&[]), &heir, |_| true);
        assert_eq!(damaged(&known), ["a", "b"], "its manifest cannot be read just now");
        let later = settle(DEEP, &known, &blamed(&[]), &heir, |label| label != "a");
        assert_eq!(later, FoundDamage::default());
    }
}
