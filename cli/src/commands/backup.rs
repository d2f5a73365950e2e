//! `highwater backup`: a base backup.

use highwater_basebackup::{Amount, Options, Phase, Progress, Report};
use highwater_replication::Checkpoint;
use serde_json::json;

use crate::args::{self, BackupArgs};
use crate::commands::{index, names};
use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Bar};

/// What the server's rate limit can be, in kB a second (`MAX_RATE_LOWER` and `MAX_RATE_UPPER`, basebackup.h, PostgreSQL 15).
const RATES_KB: std::ops::RangeInclusive<u64> = 32..=1_048_576;

pub async fn run(context: &Context, args: &BackupArgs) -> Result<(), Error> {
    let options = options(context, args)?;
    let repository = context.repository().await?;
    let bar = Watch(Bar::new(context.common.quiet));
    let report = highwater_basebackup::run(&options, &repository, &bar).await;
    bar.0.clear();
    let report = report?;
    if context.common.json {
        output::json(&json(&report))?;
    } else {
        output::print(&text(&report))?;
    }
    index::behind_a_backup(context).await;
    Ok(())
}

fn options(context: &Context, args: &BackupArgs) -> Result<Options, Error> {
    let cluster = context.cluster_config()?;
    let mut options = Options::new(context.connection()?, cluster.name.clone());
    options.label = args.label.clone();
    options.checkpoint = match args.checkpoint {
        args::Checkpoint::Fast => Checkpoint::Fast,
        args::Checkpoint::Spread => Checkpoint::Spread,
    };
    options.max_rate_kb = args.max_rate.map(rate_kb).transpose()?;
    options.full = args.full;
    options.verify_checksums = !args.no_verify_checksums;
    options.archive_check = cluster.archive_check;
    options.archive_timeout = args.wal_timeout;
    Ok(options)
}

fn rate_kb(bytes: u64) -> Result<u32, Error> {
    let kb = bytes >> 10;
    u32::try_from(kb)
        .ok()
        .filter(|_| RATES_KB.contains(&kb))
        .ok_or_else(|| Error::usage("--max-rate is out of range; hint: PostgreSQL takes 32K to 1G a second"))
}

struct Watch(Bar);

impl Progress for Watch {
    fn phase(&self, phase: &Phase) {
        let text = match phase {
            Phase::Connecting => "connecting".to_owned(),
            Phase::Begun { label, parent: None } => format!("backup {label}"),
            Phase::Begun { label, parent: Some(parent) } => {
                format!("backup {label}, what is unchanged since {parent} is taken over")
            }
            Phase::Checkpoint => "waiting for the server's checkpoint".to_owned(),
            Phase::Copying => "copying".to_owned(),
            Phase::Names => "reading the names of all relations".to_owned(),
            Phase::Matching => "comparing with the server's manifest".to_owned(),
            Phase::Wal { verified, needed, missing: Some(missing) } => {
                format!("waiting for WAL {missing} to be archived ({verified} of {needed})")
            }
            Phase::Wal { verified, needed, missing: None } => {
                format!("verifying WAL ({verified} of {needed})")
            }
            Phase::Finishing => "writing the manifest".to_owned(),
        };
        self.0.set(&text, 0, None);
    }

    fn advanced(&self, amount: &Amount) {
        self.0.set("copying", amount.bytes, Some(amount.total_bytes));
    }

    fn note(&self, text: &str) {
        self.0.suspend(|| eprintln!("highwater: {}", output::printable(text)));
    }
}

fn json(report: &Report) -> serde_json::Value {
    json!({
        "label": report.label.to_string(),
        "parent": report.parent.as_ref().map(ToString::to_string),
        "timeline": report.timeline,
        "start": report.start_lsn,
        "stop": report.stop_lsn,
        "start_time": report.start_time,
        "stop_time": report.stop_time,
        "files": report.files,
        "size_bytes": report.bytes,
        "stored_bytes": report.stored_bytes,
        "reused_bytes": report.reused_bytes,
        "zero_bytes": report.zero_bytes,
        "segments": report.segments,
        "wal_was_read": report.wal_was_read,
        "names": report.names.as_ref().ok().map(ToString::to_string),
        "names_missing": report.names.as_ref().err(),
        "unnamed": names::unreadable_json(&report.unnamed),
        "seconds": report.duration.as_secs_f64(),
    })
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "Backup {} is complete: {} files, {}, stored as {}, in {}.\n",
        report.label,
        report.files,
        output::bytes(report.bytes),
        output::bytes(report.stored_bytes),
        output::duration(report.duration)
    );
    if let Some(parent) = &report.parent {
        text += &format!(
            "{} are unchanged since {parent} and were taken over.\n",
            output::bytes(report.reused_bytes)
        );
    }
    text += &format!("Moments from {} on can be reached with it.\n", output::local(report.stop_time));
    if let Err(reason) = &report.names {
        text += &format!(
            "WARNING: the names of the tables were not taken, so highwater log may know some of them by number only: {reason}\n"
        );
    }
    text += &names::unreadable_text(&report.unnamed);
    if !report.wal_was_read {
        text += "The WAL that it needs is in the archive; its records were not read here.\n";
    }
    text
}
