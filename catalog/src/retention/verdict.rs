//! What comes of one backup, and why.

use std::fmt;
use std::time::Duration;

use highwater_wal::{TimelineId, Timestamp};
use serde::Serialize;

use super::rules::Period;

/// What a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its manifest is there.
    Complete,
    /// Its manifest is there and cannot be read.
    Damaged,
    /// It has no manifest.
    Incomplete,
    /// Its removal was begun.
    Remains,
}

/// What comes of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Fate {
    /// It stays.
    Keep,
    /// It was marked as expired, and stays: the mark is taken back.
    KeepAgain,
    /// It is marked as expired now, and removed by a later run.
    Mark,
    /// It is marked, and not removed yet.
    Wait {
        /// When it may be removed.
        until: Timestamp,
        /// The running backup that takes extents over from it.
        builder: Option<String>,
    },
    /// It is removed now.
    Remove,
}

/// Why a backup stays, or why it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum Reason {
    /// Somebody holds it.
    Held {
        /// In their words.
        reason: String,
    },
    /// The newest that can be restored.
    LastGood,
    /// The first promised moments of a timeline are reached from it.
    Base {
        /// The timeline.
        timeline: TimelineId,
    },
    /// It lies in what is promised.
    Promised,
    /// It is one of the newest.
    Newest {
        /// How many are kept.
        of: u32,
    },
    /// The newest of a day, week, month or year.
    Period {
        /// Which kind.
        period: Period,
        /// Which one.
        name: String,
    },
    /// It is too young to be touched.
    Young {
        /// The minimum age in seconds.
        minimum_age_seconds: u64,
    },
    /// It is being made, as far as can be told.
    InProgress,
    /// When it was begun cannot be read.
    NoAge,
    /// No other backup can be restored from: nothing is touched.
    NothingGood,
    /// No rule keeps it.
    NoRule,
    /// Nothing can be restored from it.
    Defective {
        /// Why.
        reason: String,
    },
    /// A verification has found it damaged: it counts for no rule.
    FoundDamaged {
        /// When, and what.
        reason: String,
    },
    /// A rule would keep it if nothing were known to be damaged: what is lacking may be mended.
    IfWhole {
        /// The rules, in words.
        reason: String,
    },
    /// It was begun so long ago that nobody makes it any more.
    Abandoned,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Held { reason } => write!(f, "held: {reason}"),
            Reason::LastGood => f.write_str("last good backup"),
            Reason::Base { timeline } => {
                write!(f, "the promised moments of timeline {timeline} begin with it")
            }
            Reason::Promised => f.write_str("lies in the promised time"),
            Reason::Newest { of } => write!(f, "one of the {of} newest"),
            Reason::Period { period, name } => {
                let kind = match period {
                    Period::Day => "day",
                    Period::Week => "week",
                    Period::Month => "month",
                    Period::Year => "year",
                };
                write!(f, "newest of {kind} {name}")
            }
            Reason::Young { minimum_age_seconds } => {
                write!(f, "younger than {}", span(Duration::from_secs(*minimum_age_seconds)))
            }
            Reason::InProgress => f.write_str("is being made"),
            Reason::NoAge => f.write_str("nobody can say when it was begun"),
            Reason::NothingGood => f.write_str("no backup can be restored from: nothing is touched"),
            Reason::NoRule => f.write_str("no rule keeps it"),
            Reason::Defective { reason } => write!(f, "cannot be restored: {reason}"),
            Reason::FoundDamaged { reason } => write!(f, "DAMAGED: {reason}"),
            Reason::IfWhole { reason } => write!(f, "stays as if nothing were damaged: {reason}"),
            Reason::Abandoned => f.write_str("abandoned before it was complete"),
        }
    }
}

/// A length of time in the largest unit that tells it exactly.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        _ if seconds.is_multiple_of(86_400) => plural(seconds / 86_400, "day"),
        _ if seconds.is_multiple_of(3600) => plural(seconds / 3600, "hour"),
        _ => plural(seconds, "second"),
    }
}

fn plural(number: u64, unit: &str) -> String {
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

/// A backup, and what comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The backup's label.
    pub label: String,
    /// What it is.
    pub state: State,
    /// When it ended, by the server's clock; for one without a readable manifest when it was begun.
    pub time: Option<Timestamp>,
    /// What comes of it.
    #[serde(flatten)]
    pub fate: Fate,
    /// Why.
    pub why: Vec<Reason>,
}

impl Verdict {
    /// Why, in words.
    pub fn reasons(&self) -> String {
        let reasons: Vec<String> = self.why.iter().map(ToString::to_string).collect();
        reasons.join(", ")
    }
}
