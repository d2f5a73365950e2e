//! `highwater plan`: how a moment would be reached, or why it cannot.

use highwater_catalog::{Plan, Request, Stop, Target, Transaction, parse_time};
use highwater_wal::Timestamp;
use time::OffsetDateTime;

use crate::args::{PlanArgs, TargetArgs, WayArgs};
use crate::context::Context;
use crate::error::Error;
use crate::output;

pub async fn run(context: &Context, args: &PlanArgs) -> Result<(), Error> {
    let request = request(&args.way)?;
    let plan = context.catalog().await?.plan(&request).await?;
    if context.common.json {
        return output::json(&plan);
    }
    output::print(&text(&plan))
}

/// What the arguments ask for.
pub fn request(way: &WayArgs) -> Result<Request, Error> {
    Ok(Request {
        target: target(&way.target)?,
        timeline: way.timeline,
        exclusive: way.exclusive,
        backup: way.backup.as_ref().map(ToString::to_string),
    })
}

fn target(args: &TargetArgs) -> Result<Target, Error> {
    let TargetArgs { latest, immediate: _, at, lsn, xid, name } = args;
    Ok(if *latest {
        Target::Latest
    } else if let Some(text) = at {
        Target::Time(parse_time(text, OffsetDateTime::now_utc(), output::offset_at)?)
    } else if let Some(lsn) = lsn {
        Target::Lsn(*lsn)
    } else if let Some(xid) = xid {
        Target::Xid(*xid)
    } else if let Some(name) = name {
        Target::Name(name.clone())
    } else {
        // clap sees to it that one of them is given.
        Target::Immediate
    })
}

/// The target as people read it: a time with the offset that it was understood with.
pub fn shown(target: &Target) -> String {
    match target {
        Target::Time(time) => output::local(*time),
        other => other.to_string(),
    }
}

/// A plan as people read it.
pub fn text(plan: &Plan) -> String {
    let mut lines = vec![("Target", shown(&plan.request.target))];
    let path: Vec<String> = plan.path.iter().map(|leg| leg.timeline.to_string()).collect();
    lines.push(("Timelines", path.join(" → ")));
    let backup = &plan.backup;
    let size = output::bytes(backup.size_bytes);
    lines.push(("Backup", format!("{}, ended {} ({size})", backup.label, output::local(backup.stop_time))));
    let wal = output::count(plan.segments, "segment");
    lines.push(("WAL", format!("{wal}, {}", output::bytes(plan.wal_bytes))));
    for run in &plan.wal {
        lines.push(("", format!("{} … {} on timeline {}", run.first, run.last, run.first.timeline)));
    }
    lines.push(("Stop", stop(plan.stop, backup.stop)));
    lines.push(("Last commit in", transaction(plan.last_before, "none since the backup began")));
    lines.push(("First commit out", transaction(plan.first_after, "none is archived")));
    lines.iter().map(|(name, value)| format!("{name:<17} {value}\n")).collect()
}

fn stop(stop: Stop, consistent: highwater_wal::Lsn) -> String {
    match stop {
        Stop::Consistent => format!("as soon as the backup is consistent, at {consistent}"),
        Stop::Record { lsn, inclusive: true } => format!("just after the record at {lsn}"),
        Stop::Record { lsn, inclusive: false } => format!("just before the record at {lsn}"),
    }
}

fn transaction(transaction: Option<Transaction>, otherwise: &str) -> String {
    let at = |time: Timestamp| output::local(time);
    transaction
        .map_or_else(|| otherwise.to_owned(), |t| format!("{}  {}  transaction {}", at(t.time), t.lsn, t.xid))
}
