//! Why a target cannot be reached.

use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineId, Timestamp};
use serde::Serialize;

use crate::target::Loss;
use crate::{DamagedBackup, Request, Target};

/// A stretch of segments that are not in the archive although later ones are, or although they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// The first missing segment.
    pub first: SegmentName,
    /// The last missing segment.
    pub last: SegmentName,
    /// How many are missing.
    pub segments: u64,
    /// Of the first one pieces are there, up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Lsn>,
    /// Nothing that is there lies behind it: what is missing was there up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was_there_until: Option<Lsn>,
}

impl Hole {
    /// All of the segments from `first` to `last`.
    pub fn of(first: SegmentName, last: SegmentName, segments: u64) -> Hole {
        Hole { first, last, segments, from: None, was_there_until: None }
    }
}

impl std::fmt::Display for Hole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.segments {
            1 => write!(f, "segment {}", self.first)?,
            n => write!(f, "{n} segments from {} to {}", self.first, self.last)?,
        }
        if let Some(from) = self.from {
            write!(f, ", of the first of which there is the beginning up to {from}")?;
        }
        match self.was_there_until {
            Some(until) => {
                write!(f, "; it was in the repository up to {until}, and has gone from it or is damaged")
            }
            None => Ok(()),
        }
    }
}

impl Hole {
    /// Where what is missing begins.
    pub fn begins(&self, size: SegmentSize) -> Lsn {
        self.from.unwrap_or(self.first.start(size))
    }
}

/// As many holes are listed.
const MOST_HOLES_LISTED: usize = 5;

/// Some of the holes, and how many more there are.
pub(crate) fn list_of_holes(holes: &[Hole]) -> String {
    let listed: Vec<String> = holes.iter().take(MOST_HOLES_LISTED).map(Hole::to_string).collect();
    let more = match holes.len() - listed.len() {
        0 => String::new(),
        more => format!("; and {more} more holes"),
    };
    listed.join("; ") + &more
}

/// What to say first to somebody whose target was not found, where something is missing.
pub(crate) fn holes_as_hint(holes: &[Hole]) -> String {
    match holes {
        [] => String::new(),
        holes => format!("it may lie in what is missing, or behind that: {}; ", list_of_holes(holes)),
    }
}

/// A timeline that the archived WAL does not reach, although its history proves that there was WAL up to where it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreached {
    /// The timeline.
    pub timeline: TimelineId,
    /// The timeline that it left.
    pub parent: TimelineId,
    /// Where it left it.
    pub fork: Lsn,
    /// The end of the unbroken WAL on the way there.
    pub reached: Lsn,
    /// The segment that would go on from there.
    pub missing: SegmentName,
    /// The parent's `.partial` file of the same segment, where that is archived.
    pub partial: Option<SegmentName>,
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Unreached { timeline, parent, fork, reached, missing, partial } = self;
        write!(
            f,
            "timeline {timeline} left timeline {parent} at {fork}, and the WAL on the way there is archived up to {reached} only: \
             missing is segment {missing}"
        )?;
        match partial {
            Some(partial) => write!(
                f,
                " ({partial}.partial is there, with the WAL of timeline {} up to the fork)",
                partial.timeline
            ),
            None => Ok(()),
        }
    }
}

/// What a timeline has of a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnTimeline {
    /// The timeline.
    pub timeline: TimelineId,
    /// When the last commit by then was; `None` where there is none behind the backup.
    pub last_commit: Option<Timestamp>,
}

/// How far one can get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// The end of the unbroken WAL.
    pub lsn: Lsn,
    /// The last moment that it covers.
    pub time: Option<Timestamp>,
    /// When the last commit in it was.
    pub last_commit: Option<Timestamp>,
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.time, self.last_commit) {
            (Some(time), Some(commit)) => write!(f, "{time} (last commit {commit}, LSN {})", self.lsn),
            (Some(time), None) => write!(f, "{time} (LSN {})", self.lsn),
            (None, _) => write!(f, "LSN {}", self.lsn),
        }
    }
}

/// Why a target cannot be reached. The message says what can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Unreachable {
    /// There is no complete backup at all.
    #[error("there is no complete backup of this cluster; hint: take one with `highwater backup`")]
    NoBackup,
    /// No backup lies on the path to the timeline.
    #[error(
        "no backup leads to timeline {timeline}: the backups are on timeline {}; hint: name one of these with --timeline",
        list(.backups_on)
    )]
    NoBackupOnPath {
        /// The timeline that was named.
        timeline: TimelineId,
        /// The timelines that do have backups.
        backups_on: Vec<TimelineId>,
    },
    /// The backup that was named does not exist or does not lie on the path.
    #[error(
        "there is no complete backup \"{label}\" on the path to timeline {timeline}; hint: `highwater list` shows the backups"
    )]
    UnknownBackup {
        /// What was named.
        label: String,
        /// The timeline that the path leads to.
        timeline: TimelineId,
    },
    /// The timeline does not exist.
    #[error("there is no timeline {timeline} in the archive: there is {}; hint: `highwater window` draws them", list(.known))]
    UnknownTimeline {
        /// The timeline that was named.
        timeline: TimelineId,
        /// Those that exist.
        known: Vec<TimelineId>,
    },
    /// The history file of the timeline is missing, so its origin is unknown.
    #[error(
        "{} {}, so nobody can say where timeline {timeline} forked off; hint: \
         archive it from the pg_wal of a server that has been on this timeline; a damaged one has to be moved away first",
        .timeline.history_name(), state(.damage)
    )]
    MissingHistory {
        /// The timeline without a history.
        timeline: TimelineId,
        /// What is wrong with the history, where it is there and damaged.
        damage: Option<String>,
    },
    /// A server that recovers along the path would ask for this history, and end when it cannot be had.
    #[error(
        "{target} can be found, but {} {}, and PostgreSQL asks for it when it recovers and would end there; hint: archive it from the \
         pg_wal of a server that has been on timeline {timeline} (a damaged one has to be moved away first); if there is none, move all \
         of that timeline out of the repository",
        .timeline.history_name(), state(.damage)
    )]
    HistoryAskedFor {
        /// What was asked for.
        target: Target,
        /// The timeline whose history it is.
        timeline: TimelineId,
        /// What is wrong with the history, where it is there and damaged.
        damage: Option<String>,
    },
    /// The backup that was named is marked as expired: what it needs may be removed while it is being restored.
    #[error(
        "backup {label} is marked as expired since {marked_at} and is to be removed; hint: keep it with `highwater hold {label} \
         --reason TEXT`, and ask again"
    )]
    ExpiredBackup {
        /// The backup.
        label: String,
        /// When it was marked.
        marked_at: Timestamp,
    },
    /// The backup that was named is damaged.
    #[error("backup {} is damaged: {}; hint: restore from another backup (`highwater list` shows them)", .0.label, .0.reason)]
    DamagedBackup(DamagedBackup),
    /// All backups that lead there were found damaged by verifications.
    #[error(
        "{target} can be reached from damaged backups only: of backup {label}, the newest of them, {damage}; hint: `highwater verify --deep` \
         tells whether that is still so, and --backup {label} starts from it all the same"
    )]
    FoundDamaged {
        /// What was asked for.
        target: Target,
        /// The newest backup that leads there.
        label: String,
        /// What was found, and when.
        damage: String,
    },
    /// The archived WAL ends before a fork on the path: there were commits up to there, and there may be more behind it.
    #[error(
        "{target} cannot be reached: {unreached}; hint: archive it from pg_wal of any server that has it{}",
        without(.unreached, .instead.as_deref())
    )]
    ForkUnreached {
        /// What was asked for.
        target: Target,
        /// The timeline that is not reached.
        unreached: Unreached,
        /// What can be reached of its parent, up to the fork.
        instead: Option<Box<Request>>,
    },
    /// Several timelines reach the time with different commits.
    #[error("{target} is reached on several timelines that went on beside one another: {}; hint: say which is meant with {}", branches(.at), options(.at))]
    SeveralTimelines {
        /// What was asked for.
        target: Target,
        /// What each of them has, the newest first.
        at: Vec<OnTimeline>,
    },
    /// The newest timeline does not reach the time, and others do.
    #[error("{target} is not reached on timeline {timeline}, the newest, but elsewhere: {}; hint: say that it is meant with {}", branches(.others), options(.others))]
    OnOtherTimeline {
        /// What was asked for.
        target: Target,
        /// The newest timeline.
        timeline: TimelineId,
        /// What the others have.
        others: Vec<OnTimeline>,
    },
    /// The target lies before the first moment that any backup can reach.
    #[error(
        "{target} is too early: the first moment that can be reached is {earliest}, the end of backup {backup} (LSN {lsn}); hint: \
             ask for that moment or a later one"
    )]
    TooEarly {
        /// What was asked for.
        target: Target,
        /// When the first backup that leads there ended.
        earliest: Timestamp,
        /// Where it ended.
        lsn: Lsn,
        /// Its label.
        backup: String,
    },
    /// The target lies behind everything that is archived.
    #[error(
        "{target} is too late: the archive reaches until {reach} on timeline {timeline}; hint: ask for --latest, or {}",
        if *.is_received { "wait until the receiver has more (highwater status)" } else { "let the server archive the rest first \
         (SELECT pg_switch_wal())" }
    )]
    TooLate {
        /// What was asked for.
        target: Target,
        /// How far one can get.
        reach: Reach,
        /// On which timeline.
        timeline: TimelineId,
        /// Whether its WAL is received as it is written.
        is_received: bool,
    },
    /// Segments are missing on the way.
    #[error(
        "{target} lies behind a hole in the archive: missing is {hole}; \
         hint: archive the missing segments if any server still has them, or ask for {}", before_hole(.reach)
    )]
    Hole {
        /// What was asked for.
        target: Target,
        /// What is missing.
        hole: Box<Hole>,
        /// How far one can get before the hole.
        reach: Reach,
    },
    /// The end of the archive has gone: there was more, and nobody would miss it.
    #[error(
        "{target} cannot be told from less: missing is {hole}; hint: bring it back from another copy of the repository; if what is missing may be left out, ask for {}", .last.map_or_else(|| before_hole(reach), |last| format!("the last record that is there with --lsn {last}"))
    )]
    EndLost {
        /// What was asked for.
        target: Target,
        /// What has gone.
        hole: Box<Hole>,
        /// How far one can get.
        reach: Reach,
        /// The last whole record that is there.
        last: Option<Lsn>,
    },
    /// Not even the backup's own WAL is complete.
    #[error(
        "backup {backup} cannot be made consistent: missing is {hole}; hint: restore from another backup (--backup LABEL)"
    )]
    BackupWithoutWal {
        /// The backup.
        backup: String,
        /// What is missing.
        hole: Hole,
    },
    /// No transaction or restore point of that name ended in what can be reached.
    #[error("{target} is not in the WAL that can be reached on timeline {timeline}; hint: {hint}")]
    NotFound {
        /// What was asked for.
        target: Target,
        /// On which timeline.
        timeline: TimelineId,
        /// What to look at.
        hint: String,
    },
    /// Several transactions dropped or truncated the table.
    #[error(
        "{table} was dropped or truncated {} times: {}; hint: ask for the last with --last, or for another with --before-xid and its \
         number", .at.len(), losses(.at)
    )]
    SeveralDrops {
        /// The table.
        table: String,
        /// What did it, the newest first.
        at: Vec<Loss>,
    },
    /// After the last transaction that is known to have dropped or truncated a table others dropped what has no name.
    #[error("{}", nameless(.table, .known.as_deref(), .at))]
    NamelessDrops {
        /// The table.
        table: String,
        /// The newest that is known.
        known: Option<Box<Loss>>,
        /// Those that may have done it as well, the newest first.
        at: Vec<Loss>,
    },
    /// Several restore points have the name.
    #[error("there are {} restore points \"{name}\": {}; hint: name the one you mean by its position with --lsn", .at.len(), places(.at))]
    Ambiguous {
        /// The name.
        name: String,
        /// Where and when each was made.
        at: Vec<(Lsn, Timestamp)>,
    },
}

/// What can be asked for in front of a hole. Its own first position is behind every record that is there.
fn before_hole(reach: &Reach) -> String {
    match reach.time {
        Some(time) => format!("a time up to {time} with --at"),
        None => format!("a position before {} with --lsn", reach.lsn),
    }
}

/// What to ask for in front of a fork that is not reached, where nothing behind that is wanted.
fn without(unreached: &Unreached, instead: Option<&Request>) -> String {
    let Some(request) = instead else { return String::new() };
    let what = match &request.target {
        Target::Lsn(lsn) => format!("--lsn {lsn} --exclusive"),
        _ => "--latest".to_owned(),
    };
    let backup = request.backup.iter().map(|label| format!(" --backup {label}")).collect::<String>();
    format!(
        "; if what was written later may be left out, ask for --timeline {} {what}{backup}",
        unreached.parent
    )
}

/// As many transactions are listed.
const MOST_LISTED: usize = 10;

fn nameless(table: &str, known: Option<&Loss>, at: &[Loss]) -> String {
    let more = match at.len().saturating_sub(MOST_LISTED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let listed = losses(&at[..at.len().min(MOST_LISTED)]);
    let (what, hint) = match known {
        Some(known) => (
            format!("{table} was dropped or truncated: {known}. Later than that"),
            format!("--before-xid {} for the one that is known, or another number", known.xid),
        ),
        None => (
            format!("no transaction is known to have dropped or truncated {table}, but"),
            "--before-xid and a number".to_owned(),
        ),
    };
    format!(
        "{what} transactions dropped or truncated files whose names are not known, and {table} may be among them: {listed}{more}; hint: \
         `highwater log --xid` and a number shows what each did beside that; say which one is meant with {hint}"
    )
}

fn list(timelines: &[TimelineId]) -> String {
    let names: Vec<String> = timelines.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn state(damage: &Option<String>) -> String {
    match damage {
        None => "is not in the archive".to_owned(),
        Some(damage) => format!("is damaged ({damage})"),
    }
}

fn branches(at: &[OnTimeline]) -> String {
    let branch = |on: &OnTimeline| match on.last_commit {
        Some(time) => format!("timeline {} (last commit by then {time})", on.timeline),
        None => format!("timeline {} (no commit by then since its backup)", on.timeline),
    };
    at.iter().map(branch).collect::<Vec<String>>().join(", ")
}

fn options(at: &[OnTimeline]) -> String {
    at.iter().map(|on| format!("--timeline {}", on.timeline)).collect::<Vec<String>>().join(" or ")
}

fn losses(at: &[Loss]) -> String {
    at.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}

fn places(at: &[(Lsn, Timestamp)]) -> String {
    let places: Vec<String> = at.iter().map(|(lsn, time)| format!("{lsn} of {time}")).collect();
    places.join(", ")
}
