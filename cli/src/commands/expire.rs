//! `highwater expire`: what retention would remove, and removing it.

use std::time::Duration;

use clap::Args;
use highwater_catalog::retention::{Clock, Fate, State, Verdict};
use highwater_expire::{Expiry, Options, Phase, Progress, Report, rules};
use highwater_repository::RetentionConfig;
use highwater_wal::{SystemId, Timestamp};
use serde_json::json;
use time::{OffsetDateTime, UtcOffset};

use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Align, Bar, Table};

/// Arguments of `expire`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater expire                             tell what would go, what stays and why
  highwater expire --apply
  highwater expire --window 14d --monthly 12   as if this were set

What no rule keeps is marked first; a later run, at least a day afterwards, removes it.")]
pub struct ExpireArgs {
    /// Remove it, instead of only telling
    #[arg(long)]
    pub apply: bool,
    /// Every moment of the last TIME can be reached (14d, 36h)
    #[arg(long, value_name = "TIME", value_parser = RetentionConfig::parse_span)]
    pub window: Option<Duration>,
    /// Keep at least N backups, and every moment since the oldest of them
    #[arg(long, value_name = "N")]
    pub backups: Option<u32>,
    /// Keep the newest backup of each of the last N days that have one
    #[arg(long, value_name = "N")]
    pub daily: Option<u32>,
    /// The same of weeks, from Monday
    #[arg(long, value_name = "N")]
    pub weekly: Option<u32>,
    /// The same of months
    #[arg(long, value_name = "N")]
    pub monthly: Option<u32>,
    /// The same of years
    #[arg(long, value_name = "N")]
    pub yearly: Option<u32>,
    /// In which zone days begin (+01:00) [default: UTC]
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, value_parser = RetentionConfig::parse_offset)]
    pub utc_offset: Option<UtcOffset>,
    /// Touch nothing that is younger [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = RetentionConfig::parse_span)]
    pub minimum_age: Option<Duration>,
    /// How long a backup is marked before it is removed [default: 1d, and no less]
    #[arg(long, value_name = "TIME", value_parser = RetentionConfig::parse_span)]
    pub grace: Option<Duration>,
    /// Give a backup up that was begun so long ago and is not complete [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = RetentionConfig::parse_span)]
    pub abandoned_after: Option<Duration>,
    /// The system identifier named with --system-id is done with: only what lies in the window, is held or is young stays
    #[arg(long, requires = "system_id")]
    pub retire: bool,
}

impl ExpireArgs {
    fn settings(&self) -> RetentionConfig {
        RetentionConfig {
            window: self.window,
            backups: self.backups,
            daily: self.daily,
            weekly: self.weekly,
            monthly: self.monthly,
            yearly: self.yearly,
            utc_offset: self.utc_offset,
            minimum_age: self.minimum_age,
            grace: self.grace,
            abandoned_after: self.abandoned_after,
        }
    }
}

pub async fn run(context: &Context, args: &ExpireArgs) -> Result<(), Error> {
    let name = context.cluster_name()?;
    let configured = context.config.as_ref().map(|config| config.retention(&name)).unwrap_or_default();
    let rules = rules(&args.settings().or(&configured));
    let newest = context.cluster().await?;
    let repository = newest.repository().clone();
    let systems = systems(context, &repository, &name).await?;
    if args.retire {
        let newest = highwater_catalog::newest_system(&repository, &name).await?;
        if systems.contains(&newest) {
            return Err(Error::usage(
                "--retire is for a system identifier that another one has taken the place of; hint: this one is the newest",
            ));
        }
    }
    // Without a rule nothing needs to be looked at.
    if !rules.say_what_to_keep() && !args.retire {
        return Err(highwater_expire::Error::NoRule.into());
    }
    let watch = Watch(Bar::new(context.common.quiet));
    // A system identifier that is not lived on any more gets older by the clock of the one that has taken its place.
    let mut opened = Vec::new();
    for system_id in all_systems(&repository, &name).await? {
        let expiry = Expiry::open(repository.cluster(&name, system_id), &watch).await?;
        opened.push((system_id, expiry));
    }
    let archive = opened.iter().filter_map(|(_, expiry)| expiry.newest_moment()).max();
    let here = Timestamp::from_datetime(OffsetDateTime::now_utc());
    let clock = Clock { here, archive };
    let mut reports = Vec::new();
    for (system_id, expiry) in opened {
        if !systems.contains(&system_id) {
            continue;
        }
        let options =
            Options { apply: args.apply, retire: args.retire, ..Options::new(rules.clone(), clock) };
        let report = expiry.run(&options, &watch).await;
        if report.is_err() {
            watch.0.clear();
        }
        reports.push(report?);
    }
    watch.0.clear();
    if context.common.json {
        return output::json(&answer(&reports));
    }
    let texts: Vec<String> = reports.iter().map(|report| text(report, &output::local)).collect();
    output::print(&texts.join("\n"))
}

type Name = highwater_repository::ClusterName;

/// The system identifiers that are meant: the one that was named, else all that the cluster has had.
async fn systems(
    context: &Context,
    repository: &highwater_repository::Repository,
    name: &Name,
) -> Result<Vec<SystemId>, Error> {
    match context.common.system_id {
        Some(system_id) => {
            let known = all_systems(repository, name).await?;
            if known.contains(&system_id) {
                return Ok(vec![system_id]);
            }
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            Err(Error::usage(format!(
                "cluster {name} has no system identifier {system_id}; hint: there is {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )))
        }
        None => all_systems(repository, name).await,
    }
}

async fn all_systems(
    repository: &highwater_repository::Repository,
    name: &Name,
) -> Result<Vec<SystemId>, Error> {
    Ok(repository.systems(name).await?)
}

struct Watch(Bar);

impl Progress for Watch {
    fn phase(&self, phase: &Phase) {
        let text = match phase {
            Phase::Listing => "listing what there is".to_owned(),
            Phase::Manifest(label) => format!("reading the manifest of {label}"),
            Phase::Deciding => "deciding".to_owned(),
            Phase::Marking => "marking".to_owned(),
            Phase::Removing(label) => format!("removing {label}"),
            Phase::Packs(done, total) => format!("removing packs ({done} of {total})"),
            Phase::Wal(log) => format!("looking at WAL {log}"),
        };
        self.0.set(&text, 0, None);
    }

    fn note(&self, text: &str) {
        self.0.suspend(|| eprintln!("highwater: {}", output::printable(text)));
    }
}

/// What is answered to programs.
fn answer(reports: &[Report]) -> serde_json::Value {
    json!({ "systems": reports })
}

fn text(report: &Report, show: &dyn Fn(Timestamp) -> String) -> String {
    let mut text =
        format!("{}, system identifier {}, at {}\n", report.cluster, report.system_id, show(report.now));
    let mut table = Table::new(&[
        ("BACKUP", Align::Left),
        ("ENDED", Align::Left),
        ("", Align::Left),
        ("WHY", Align::Left),
    ]);
    for verdict in &report.verdicts {
        let ended = verdict.time.map_or_else(|| "-".to_owned(), show);
        table.row([verdict.label.clone(), ended, fate(verdict, report.is_applied, show), verdict.reasons()]);
    }
    match report.verdicts.is_empty() {
        true => text.push_str("There are no backups.\n"),
        false => text.push_str(&table.to_string()),
    }
    if let Some(from) = report.promised_from {
        text.push_str(&format!("Every moment from {} on that can be reached stays so.\n", show(from)));
    }
    for note in &report.notes {
        text.push_str(&format!("Note: {note}\n"));
    }
    let removed = &report.removed;
    text.push_str(&format!(
        "{} {}: {} ({}), {} of WAL ({}), manifests ({}).\n",
        if report.is_applied { "Freed" } else { "Would free" },
        output::bytes(removed.bytes()),
        output::count(removed.packs, "pack"),
        output::bytes(removed.pack_bytes),
        output::count(removed.wal_files, "file"),
        output::bytes(removed.wal_bytes),
        output::bytes(removed.other_bytes)
    ));
    if !report.is_applied {
        text.push_str("Nothing was changed. `highwater expire --apply` does it.\n");
    }
    text
}

fn fate(verdict: &Verdict, is_applied: bool, show: &dyn Fn(Timestamp) -> String) -> String {
    let is_complete = verdict.state == State::Complete;
    match (&verdict.fate, is_applied) {
        (Fate::Keep, _) => "stays".to_owned(),
        (Fate::KeepAgain, true) => "stays: its mark was taken back".to_owned(),
        (Fate::KeepAgain, false) => "stays: its mark would be taken back".to_owned(),
        (Fate::Mark, true) if is_complete => "expired now".to_owned(),
        (Fate::Mark, true) => "given up now".to_owned(),
        (Fate::Mark, false) if is_complete => "would expire".to_owned(),
        (Fate::Mark, false) => "would be given up".to_owned(),
        (Fate::Wait { builder: Some(builder), .. }, _) => format!("expired, goes when {builder} is made"),
        (Fate::Wait { until, .. }, _) => format!("expired, goes after {}", show(*until)),
        (Fate::Remove, true) => "removed".to_owned(),
        (Fate::Remove, false) => "would be removed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
