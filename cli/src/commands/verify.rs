//! `highwater verify`: proves what is in the repository.

use clap::Args;
use highwater_repository::Label;
use highwater_verify::{Finding, Options, Progress, Report, Weight, verify};
use highwater_wal::TimelineId;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Bar};

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater verify                            all that backups and windows need is there
  highwater verify --deep                     everything is read, and every checksum compared
  highwater verify --deep --since-last        only what is new since the last such verification
  highwater verify --deep --sample 5%

Exit status: 0 all is well, 4 something is damaged or missing. It deletes nothing and mends nothing.")]
pub struct VerifyArgs {
    /// Read everything: digests, the checksum of every WAL record and of every page
    #[arg(long)]
    pub deep: bool,
    /// Leave out what the last whole verification found in order
    #[arg(long)]
    pub since_last: bool,
    /// Go on with a verification that was cut short
    #[arg(long, requires = "deep")]
    pub resume: bool,
    /// Read a random part of packs and segments only
    #[arg(long, value_name = "PERCENT", requires = "deep", value_parser = parse_percent)]
    pub sample: Option<f64>,
    /// Only this backup, and the WAL that it needs
    #[arg(long, value_name = "LABEL", conflicts_with = "timeline")]
    pub backup: Option<Label>,
    /// Only the WAL of this timeline
    #[arg(long, value_name = "N")]
    pub timeline: Option<TimelineId>,
    /// Tell what can be told of an encrypted repository where there is no identity
    #[arg(long)]
    pub without_identity: bool,
}

struct OnTerminal(Bar);

impl Progress for OnTerminal {
    fn at(&self, phase: &str, done_bytes: u64, total_bytes: Option<u64>) {
        self.0.set(phase, done_bytes, total_bytes);
    }
}

pub async fn run(context: &Context, args: &VerifyArgs) -> Result<(), Error> {
    let options = Options {
        deep: args.deep,
        since_last: args.since_last,
        resume: args.resume,
        sample: args.sample,
        backup: args.backup.clone(),
        timeline: args.timeline,
        without_identity: args.without_identity,
        ..Options::shallow()
    };
    let cluster = context.cluster().await?;
    let progress = OnTerminal(Bar::new(context.common.quiet));
    let report = verify(&cluster, &options, &progress).await;
    progress.0.clear();
    let report = report?;
    if context.common.json {
        output::json(&report)?;
    } else {
        output::print(&text(&report))?;
    }
    if report.is_well() { Ok(()) } else { Err(Error::Told(Exit::Damaged)) }
}

fn text(report: &Report) -> String {
    let looked = &report.looked;
    let how = if report.deep { "read whole" } else { "looked for, not read" };
    let of = |part: u64, all: u64| if part == all { all.to_string() } else { format!("{part} of {all}") };
    let mut lines = vec![
        ("Cluster", format!("{} (system identifier {})", report.cluster, report.system_id)),
        ("Repository", report.repository.clone()),
        ("Verified", format!("{}; {how}", report.scope)),
        (
            "Backups",
            format!(
                "{}, with {}",
                of(looked.backups_read, looked.backups),
                output::count(looked.files, "file")
            ),
        ),
    ];
    let records = match report.deep {
        true => format!(", {} whose checksums were compared", output::count(looked.records, "record")),
        false => String::new(),
    };
    lines.push(("Segments", format!("{}{records}", of(looked.segments_read, looked.segments))));
    let packs = match report.deep {
        true => format!(
            "{}, {} in the store, {}, {} whose checksums were compared",
            of(looked.packs_read, looked.packs),
            output::bytes(looked.stored_bytes),
            output::count(looked.extents, "extent"),
            output::count(looked.pages, "page")
        ),
        false => format!("{}, {}", looked.packs, output::bytes(looked.stored_bytes)),
    };
    lines.push(("Packs", packs));
    lines.push(("Events", of(looked.events_read, looked.events)));
    for unproven in &report.unproven {
        lines.push(("Not proven", unproven.clone()));
    }
    for finding in &report.findings {
        lines.push((if finding.weight == Weight::Damage { "DAMAGE" } else { "Note" }, told(finding)));
        if !finding.backups.is_empty() {
            lines.push(("", format!("needed by backup {}", finding.backups.join(", "))));
        }
        if let Some(moments) = &finding.moments {
            lines.push(("", format!("cannot be reached without it: moments {moments}")));
        }
    }
    if report.more_damage + report.more_notes > 0 {
        lines.push(("And", format!("{} more damages, {} more notes", report.more_damage, report.more_notes)));
    }
    lines.push(("Result", result(report)));
    lines.iter().map(|(name, value)| format!("{name:<16} {value}\n")).collect()
}

fn told(finding: &Finding) -> String {
    format!("{}: {}", finding.object, finding.what)
}

fn result(report: &Report) -> String {
    let time = std::time::Duration::from_secs_f64(report.seconds.max(0.0));
    let speed = match report.deep && report.seconds > 0.0 {
        true => format!(
            ", {} proven, {}/s",
            output::bytes(report.looked.bytes),
            output::bytes((report.looked.bytes as f64 / report.seconds) as u64)
        ),
        false => String::new(),
    };
    let found = match report.damage() {
        0 => "nothing is damaged or missing".to_owned(),
        damages => format!("{} FOUND", output::count(damages, "DAMAGE")),
    };
    format!("{found} ({}{speed})", output::duration(time))
}

/// `5%`, `0.5%`, `5`.
fn parse_percent(text: &str) -> Result<f64, String> {
    let hint = || "hint: write it as 5% or 0.5%".to_owned();
    let number: f64 = text.strip_suffix('%').unwrap_or(text).trim().parse().map_err(|_| hint())?;
    if number > 0.0 && number <= 100.0 { Ok(number) } else { Err(hint()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents() {
        assert_eq!(parse_percent("5%"), Ok(5.0));
        assert_eq!(parse_percent("0.5"), Ok(0.5));
        for bad in ["", "%", "0%", "101%", "-1", "x", "nan"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
