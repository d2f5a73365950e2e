//! `highwater plan`: how a moment would be reached, or why it cannot.

use highwater_catalog::{
    Before, BeforeWhat, Catalog, ClockStep, Plan, PlanError, Replay, Request, RestoreSpeed, Stop, Target,
    TimelineStep, Transaction, parse_time,
};
use highwater_wal::Timestamp;
use time::OffsetDateTime;

use crate::args::{PlanArgs, TargetArgs, WayArgs};
use crate::context::Context;
use crate::error::Error;
use crate::output;

pub async fn run(context: &Context, args: &PlanArgs) -> Result<(), Error> {
    let request = request(&args.way)?;
    let mut catalog = context.catalog().await?;
    let plan = find(&mut catalog, &request).await?;
    tell(context, &plan, &Estimate::make(&catalog, &plan).await, "")
}

/// Prints a plan with what it will take, and a last line.
pub fn tell(context: &Context, plan: &Plan, estimate: &Estimate, last: &str) -> Result<(), Error> {
    #[derive(serde::Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        plan: &'a Plan,
        estimate: &'a Estimate,
    }
    if context.common.json {
        return output::json(&Told { plan, estimate });
    }
    output::print(&(text(plan, estimate, &output::local) + last))
}

/// How long it will take, as far as anything is recorded.
#[derive(Debug, serde::Serialize)]
pub struct Estimate {
    /// What is known of the restores before.
    recorded: Option<RestoreSpeed>,
    /// Seconds for writing the backup's files; nothing where no restore is recorded.
    files_seconds: Option<f64>,
    /// Why nothing is known, where that is not for want of restores.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

impl Estimate {
    /// From the restores that the repository has recorded. That they cannot be read is no reason to have no plan.
    pub async fn make(catalog: &Catalog, plan: &Plan) -> Estimate {
        match catalog.restore_speed().await {
            Ok(recorded) => Estimate::from(recorded, plan),
            Err(error) => Estimate { recorded: None, files_seconds: None, unknown: Some(error.to_string()) },
        }
    }

    fn from(recorded: Option<RestoreSpeed>, plan: &Plan) -> Estimate {
        let seconds = |speed: &RestoreSpeed| plan.backup.size_bytes as f64 / speed.bytes_per_second;
        Estimate { files_seconds: recorded.as_ref().map(seconds), recorded, unknown: None }
    }

    fn text(&self, plan: &Plan, show: Show<'_>) -> String {
        let (Some(recorded), Some(seconds)) = (&self.recorded, self.files_seconds) else {
            return match &self.unknown {
                Some(reason) => format!("none: the recorded restores cannot be read: {reason}"),
                None => "none: no restore has been recorded yet".to_owned(),
            };
        };
        let host = if recorded.on_this_host { "this machine" } else { "other machines" };
        // Whole seconds are enough, and less than one is nothing to wait for.
        let duration = output::duration(std::time::Duration::from_secs(seconds.ceil().min(1e9) as u64));
        format!(
            "{duration} to write the files, by {} on {host} ({} a second, the latest {}); replaying {} of WAL comes on top, and how fast \
             the server does that is not recorded",
            output::count(recorded.restores as u64, "restore"),
            output::bytes(recorded.bytes_per_second as u64),
            show(recorded.latest),
            output::bytes(plan.replay.bytes)
        )
    }
}

/// How times are shown.
pub type Show<'a> = &'a dyn Fn(Timestamp) -> String;

/// The way to a moment. Where there is none, what else to know of the repository stands before the reason.
pub async fn find(catalog: &mut Catalog, request: &Request) -> Result<Plan, Error> {
    match catalog.plan(request).await {
        Err(PlanError::Unreachable(reason)) => {
            output::notes(&catalog.inventory().notes());
            Err(reason.into())
        }
        found => Ok(found?),
    }
}

/// What the arguments ask for.
pub fn request(way: &WayArgs) -> Result<Request, Error> {
    let (target, is_cut) = target(way)?;
    Ok(Request {
        target,
        timeline: way.timeline,
        // What lies before a moment between two microseconds lies at the earlier one or before it.
        exclusive: way.exclusive && !is_cut,
        backup: way.backup.as_ref().map(ToString::to_string),
    })
}

/// The target, and whether a time was cut to whole microseconds.
fn target(way: &WayArgs) -> Result<(Target, bool), Error> {
    let TargetArgs { latest, immediate: _, at, lsn, xid, name, before_drop, before_xid } = &way.target;
    if let Some(text) = at {
        let parsed = parse_time(text, OffsetDateTime::now_utc(), output::offset_at)?;
        return Ok((Target::Time(parsed.time), parsed.is_cut));
    }
    let target = if *latest {
        Target::Latest
    } else if let Some(lsn) = lsn {
        Target::Lsn(*lsn)
    } else if let Some(xid) = xid {
        Target::Xid(*xid)
    } else if let Some(name) = name {
        Target::Name(name.clone())
    } else if let Some(table) = before_drop {
        just_before(BeforeWhat::Drop { table: table.clone(), last: way.last })
    } else if let Some(xid) = before_xid {
        just_before(BeforeWhat::Transaction { xid: *xid })
    } else {
        // clap sees to it that one of them is given.
        Target::Immediate
    };
    Ok((target, false))
}

fn just_before(what: BeforeWhat) -> Target {
    Target::Before(Box::new(Before { what, found: None, holes: Vec::new() }))
}

/// The target as people read it: a time with the offset that it was understood with.
pub fn shown(target: &Target, show: Show<'_>) -> String {
    match target {
        Target::Time(time) => show(*time),
        Target::Before(before) => match &before.found {
            Some(loss) => {
                format!(
                    "before transaction {} {} at {} (LSN {})",
                    loss.xid,
                    loss.what,
                    show(loss.time),
                    loss.lsn
                )
            }
            None => before.to_string(),
        },
        other => other.to_string(),
    }
}

/// A plan as people read it.
pub fn text(plan: &Plan, estimate: &Estimate, show: Show<'_>) -> String {
    let mut lines = vec![("Target", shown(&plan.request.target, show))];
    let path: Vec<String> = plan.path.iter().map(|leg| leg.timeline.to_string()).collect();
    let chosen = match plan.request.timeline {
        Some(_) => "as asked for",
        None => "the newest",
    };
    lines.push(("Timelines", format!("{} ({chosen})", path.join(" → "))));
    for step in &plan.steps {
        let TimelineStep { began, fork } = step;
        lines.push(("", format!("{began} left {} at {}: {fork}", fork.timeline, fork.lsn)));
    }
    let backup = &plan.backup;
    let size = output::bytes(backup.size_bytes);
    lines.push(("Backup", format!("{}, ended {} ({size})", backup.label, show(backup.stop_time))));
    let wal = output::count(plan.segments, "segment");
    lines.push(("WAL", format!("{wal}, {}", output::bytes(plan.wal_bytes))));
    for run in &plan.wal {
        lines.push(("", format!("{} … {} on timeline {}", run.first, run.last, run.first.timeline)));
    }
    let Replay { from, to, bytes } = plan.replay;
    lines.push(("Replayed", format!("{} of it, from {from} to {to}", output::bytes(bytes))));
    lines.push(("Time", estimate.text(plan, show)));
    lines.push(("Stop", stop(plan)));
    lines.push(("Last commit in", transaction(plan.last_before, "none since the backup began", show)));
    lines.push(("First commit out", transaction(plan.first_after, "none is archived", show)));
    lines.extend(plan.clock.map(|step| ("Clock", clock(step, show))));
    lines.extend(plan.notes.iter().map(|note| ("Note", note.clone())));
    lines.iter().map(|(name, value)| format!("{name:<17} {value}\n")).collect()
}

fn stop(plan: &Plan) -> String {
    let is_time = matches!(plan.request.target, Target::Time(_));
    match plan.stop {
        Stop::Consistent => format!("as soon as the backup is consistent, at {}", plan.backup.stop),
        Stop::Record { lsn, inclusive: true } if is_time => {
            format!("just after the record at {lsn}, the last that is archived: no transaction ended later")
        }
        Stop::Record { lsn, inclusive: true } => format!("just after the record at {lsn}"),
        Stop::Record { lsn, inclusive: false } if is_time => {
            format!(
                "just before the record at {lsn}, the first end of a transaction in the WAL that is too late"
            )
        }
        Stop::Record { lsn, inclusive: false } => format!("just before the record at {lsn}"),
    }
}

fn clock(step: ClockStep, show: Show<'_>) -> String {
    let ClockStep { earlier_in_wal, left_out } = step;
    format!(
        "it went back: transaction {} at {} of {} comes first in the WAL, and transaction {} at {} of {} behind it is left out; order in \
         the WAL decides",
        earlier_in_wal.xid,
        earlier_in_wal.lsn,
        show(earlier_in_wal.time),
        left_out.xid,
        left_out.lsn,
        show(left_out.time)
    )
}

fn transaction(transaction: Option<Transaction>, otherwise: &str, show: Show<'_>) -> String {
    transaction.map_or_else(
        || otherwise.to_owned(),
        |t| format!("{}  {}  transaction {}", show(t.time), t.lsn, t.xid),
    )
}

#[cfg(test)]
mod tests;
