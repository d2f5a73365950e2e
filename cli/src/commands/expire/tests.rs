use highwater_catalog::retention::{DAY, Fate, Period, Reason, State, Verdict};
use highwater_expire::{Gone, Report};
use highwater_wal::{SystemId, Timestamp};

use super::{answer, text};
use crate::commands::golden::{at, is_golden, show, tli};

fn verdict(label: &str, days_ago: i64, fate: Fate, why: &[Reason]) -> Verdict {
    let time = Some(Timestamp(at(0, 0).0 - days_ago * DAY.as_micros() as i64));
    Verdict { label: label.to_owned(), state: State::Complete, time, fate, why: why.to_vec() }
}

fn report() -> Report {
    let audit = Reason::Held { reason: "audit 2026".to_owned() };
    let month = Reason::Period { period: Period::Month, name: "2026-10".to_owned() };
    let young = Reason::Young { minimum_age_seconds: 7 * 86_400 };
    let abandoned =
        Verdict { state: State::Incomplete, ..verdict("cut-off", 12, Fate::Mark, &[Reason::Abandoned]) };
    let waits = |builder: Option<&str>| Fate::Wait { until: at(90, 0), builder: builder.map(str::to_owned) };
    Report {
        cluster: "main".to_owned(),
        system_id: SystemId(7),
        is_applied: false,
        now: at(0, 0),
        promised_from: Some(Timestamp(at(0, 0).0 - 14 * DAY.as_micros() as i64)),
        verdicts: vec![
            verdict("oldest", 400, Fate::Remove, &[Reason::NoRule]),
            verdict("audited", 300, Fate::KeepAgain, &[audit]),
            verdict("waiting", 99, waits(None), &[Reason::NoRule]),
            verdict("built-on", 98, waits(Some("running")), &[Reason::NoRule]),
            verdict("october", 21, Fate::Keep, &[month]),
            verdict("superfluous", 20, Fate::Mark, &[Reason::NoRule]),
            verdict("base", 15, Fate::Keep, &[Reason::Base { timeline: tli(2) }]),
            abandoned,
            verdict("newest", 1, Fate::Keep, &[Reason::LastGood, Reason::Promised, young]),
        ],
        removed: Gone { packs: 7, pack_bytes: 3 << 30, wal_files: 1, wal_bytes: 5 << 20, other_bytes: 2048 },
        notes: vec!["something to know".to_owned()],
    }
}

#[test]
fn what_would_go_and_what_went() {
    is_golden("expire", &text(&report(), &show));
    let applied = Report { is_applied: true, notes: Vec::new(), ..report() };
    is_golden("expire-applied", &text(&applied, &show));
    let none = Report {
        verdicts: Vec::new(),
        promised_from: None,
        removed: Gone::default(),
        notes: Vec::new(),
        ..report()
    };
    is_golden("expire-nothing", &text(&none, &show));
}

#[test]
fn the_same_for_programs() {
    is_golden("expire-json", &format!("{:#}\n", answer(&[report()])));
}
