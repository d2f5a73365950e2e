//! `highwater plan`: how a moment would be reached, or why it cannot.

use highwater_catalog::{
    Before, BeforeWhat, Catalog, Plan, PlanError, Request, Stop, Target, Transaction, parse_time,
};
use highwater_wal::Timestamp;
use time::OffsetDateTime;

use crate::args::{PlanArgs, TargetArgs, WayArgs};
use crate::context::Context;
use crate::error::Error;
use crate::output;

pub async fn run(context: &Context, args: &PlanArgs) -> Result<(), Error> {
    let request = request(&args.way)?;
    let plan = find(&mut context.catalog().await?, &request).await?;
    if context.common.json {
        return output::json(&plan);
    }
    output::print(&text(&plan))
}

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
    Target::Before(Box::new(Before { what, found: None }))
}

/// The target as people read it: a time with the offset that it was understood with.
pub fn shown(target: &Target) -> String {
    match target {
        Target::Time(time) => output::local(*time),
        Target::Before(before) => match &before.found {
            Some(loss) => {
                let at = output::local(loss.time);
                format!("before transaction {} {} at {at} (LSN {})", loss.xid, loss.what, loss.lsn)
            }
            None => before.to_string(),
        },
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
    lines.extend(plan.notes.iter().map(|note| ("Note", note.clone())));
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
