//! Marks, holds and claims: what several programs do to a backup's folder at the same time (R20).

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use common::{KINDS, Kind, Scratch, cluster};
use highwater_repository::{Backups, Claim, Error, Event, Label, ManifestHead, ManifestWriter, Outcome};
use highwater_wal::Timestamp;

const NOW: Timestamp = Timestamp(1_000_000);

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

async fn backup(backups: &Backups, name: &str) -> Label {
    let started = backups.start(&label(name)).await.unwrap();
    let head = ManifestHead {
        version: ManifestHead::VERSION,
        label: started.label.clone(),
        host: started.host,
        program: started.program,
        begun_at: NOW,
        finished_at: NOW,
        parent: None,
        totals: Default::default(),
        parts: Vec::new(),
        postgres: None,
    };
    ManifestWriter::new(backups, &started.label).unwrap().finish(head).await.unwrap();
    started.label
}

async fn backups_of(kind: Kind) -> (Scratch, Backups) {
    let scratch = Scratch::new(kind);
    let backups = cluster(&scratch.repository).backups();
    (scratch, backups)
}

fn refusal(error: &Error) -> String {
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("hint: "), "{text}");
    text
}

#[tokio::test]
async fn r20_what_a_folder_holds_is_told_by_one_listing() {
    for kind in KINDS {
        let (_scratch, backups) = backups_of(kind).await;
        let whole = backup(&backups, "whole").await;
        backups.start(&label("begun")).await.unwrap();
        assert!(backups.build_on(&label("begun"), &whole).await.unwrap());
        backups.mark_expired(&whole, NOW, "no rule keeps it").await.unwrap();
        let found = backups.list().await.unwrap();
        let objects = ["started", "parent", "manifest", "expired", "hold", "removing"];
        let told =
            found.iter().map(|backup| (backup.label.as_str(), objects.map(|object| backup.has(object))));
        let expected = [
            ("begun", [true, true, false, false, false, false]),
            ("whole", [true, false, true, true, false, false]),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert!(found[0].stored_bytes() > 100);
        assert_eq!(backups.list_one(&whole).await.unwrap().as_ref(), Some(&found[1]));
        assert_eq!(backups.list_one(&label("who")).await.unwrap(), None);
        assert_eq!(backups.builds_on(&label("begun")).await.unwrap(), Some(whole.clone()));
        assert_eq!(backups.builds_on(&whole).await.unwrap(), None);
        let mark = backups.expired(&whole).await.unwrap().unwrap();
        assert_eq!((mark.marked_at, mark.reason.as_str()), (NOW, "no rule keeps it"));
        // The first mark stands.
        backups.mark_expired(&whole, Timestamp(9), "another").await.unwrap();
        assert_eq!(backups.expired(&whole).await.unwrap(), Some(mark));
    }
}

#[tokio::test]
async fn r20_nothing_builds_on_a_backup_that_was_marked_meanwhile() {
    let (_scratch, backups) = backups_of(Kind::Lz4).await;
    let parent = backup(&backups, "parent").await;
    backups.start(&label("child")).await.unwrap();
    backups.mark_expired(&parent, NOW, "r").await.unwrap();
    assert!(!backups.build_on(&label("child"), &parent).await.unwrap());
}

#[tokio::test]
async fn r19_a_hold_takes_a_mark_back_and_comes_before_a_removal_or_not_at_all() {
    let (_scratch, backups) = backups_of(Kind::Lz4).await;
    let whole = backup(&backups, "whole").await;
    assert!(refusal(&backups.hold(&whole, NOW, "  ").await.unwrap_err()).contains("needs a reason"));
    let none = backups.hold(&label("none"), NOW, "r").await.unwrap_err();
    assert!(refusal(&none).contains("no complete backup"));

    backups.mark_expired(&whole, NOW, "r").await.unwrap();
    let hold = backups.hold(&whole, NOW, "audit 2026").await.unwrap();
    assert!(!backups.is_expired(&whole).await.unwrap());
    assert_eq!(backups.held(&whole).await.unwrap(), Some(hold));
    assert!(refusal(&backups.hold(&whole, NOW, "r").await.unwrap_err()).contains("audit 2026"));

    // Somebody marks it again without looking.
    backups.mark_expired(&whole, NOW, "r").await.unwrap();
    assert_eq!(backups.claim_removal(&whole).await.unwrap(), Claim::Withdrawn);
    assert!(!backups.list_one(&whole).await.unwrap().unwrap().has("removing"));

    backups.release(&whole).await.unwrap();
    assert_eq!(backups.claim_removal(&whole).await.unwrap(), Claim::Granted);
    assert_eq!(backups.claim_removal(&whole).await.unwrap(), Claim::Granted, "the next run goes on with it");
    assert!(refusal(&backups.hold(&whole, NOW, "late").await.unwrap_err()).contains("is being removed"));
    assert_eq!(backups.held(&whole).await.unwrap(), None);
    assert!(backups.is_expired(&whole).await.unwrap());
    assert!(refusal(&backups.unmark(&whole).await.unwrap_err()).contains("is being removed"));
    assert_eq!(
        backups.claim_removal(&whole).await.unwrap(),
        Claim::Withdrawn,
        "an unmarked backup is not removed"
    );
}

#[tokio::test]
async fn r20_a_label_is_free_again_only_when_all_is_gone() {
    let (_scratch, backups) = backups_of(Kind::Lz4).await;
    let whole = backup(&backups, "whole").await;
    backups.mark_expired(&whole, NOW, "r").await.unwrap();
    assert_eq!(backups.claim_removal(&whole).await.unwrap(), Claim::Granted);
    backups.remove_manifest(&whole).await.unwrap();
    assert_eq!(backups.head(&whole).await.unwrap(), None);
    let taken = backups.start(&whole).await.unwrap_err();
    assert!(matches!(taken, Error::LabelTaken { is_complete: false, .. }), "{taken}");
    let left = backups.list_one(&whole).await.unwrap().unwrap();
    backups.remove_rest(&left).await.unwrap();
    assert_eq!(backups.list_one(&whole).await.unwrap(), None);
    backups.start(&whole).await.unwrap();
}

#[tokio::test]
async fn r19_a_verification_that_nobody_understands_is_not_taken_for_one_that_found_nothing() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = cluster(&scratch.repository);
    let verification = |time: i64, backups: serde_json::Value| {
        let mut event = Event::new("verify", None, Outcome::Done)
            .with("system_id", cluster.system_id().to_string())
            .with("damaged_backups", backups);
        event.time = Timestamp(time);
        event
    };
    let damage = serde_json::json!({ "found_at": NOW, "deep": true, "in_packs": true, "object": "packs/00/1", "what": "a bit" });
    let understood = verification(1_000_000, serde_json::json!({ "a@1": damage }));
    let strange = verification(2_000_000, serde_json::json!("in words that are yet to come"));
    for event in [&understood, &strange] {
        scratch.repository.note(event).await.unwrap();
    }
    let last = cluster.last_verification().await.unwrap();
    assert_eq!(last.unreadable, [strange.name()]);
    assert_eq!(last.at, Some(understood.time));
    assert!(last.damage.backups.contains_key("a@1"), "{last:?}");
}
