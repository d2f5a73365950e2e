//! `highwater hold`: keeping one backup whatever the rules say.

use clap::Args;
use highwater_repository::{Event, Hold, Label, Outcome};
use highwater_wal::Timestamp;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::context::Context;
use crate::error::Error;
use crate::output;

/// Arguments of `hold`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater hold 20261120T031500Z --reason 'audit 2026, ask Ada before it goes'
  highwater hold 20261120T031500Z --release

The backup stays, with the WAL that makes it consistent; a mark as expired is taken back. Moments behind its end stay within
reach only as long as the rules say so.")]
pub struct HoldArgs {
    /// The backup
    pub label: Label,
    /// Why it is kept, and whom to ask
    #[arg(long, value_name = "TEXT", required_unless_present = "release", conflicts_with = "release")]
    pub reason: Option<String>,
    /// End the hold: from now on the rules decide again
    #[arg(long)]
    pub release: bool,
}

pub async fn run(context: &Context, args: &HoldArgs) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let backups = cluster.backups();
    let label = &args.label;
    let noted = |what| Event::new("expire", Some(cluster.name()), Outcome::Done).with(what, label.as_str());
    let Some(reason) = &args.reason else {
        let held = backups.held(label).await?;
        backups.release(label).await?;
        cluster.repository().note(&noted("released")).await?;
        return match context.common.json {
            true => output::json(&released_answer(label, held.as_ref())),
            false => output::print(&released_text(label, held.as_ref(), &output::local)),
        };
    };
    let now = Timestamp::from_datetime(OffsetDateTime::now_utc());
    let hold = backups.hold(label, now, reason).await?;
    cluster.repository().note(&noted("held").with("reason", hold.reason.as_str())).await?;
    match context.common.json {
        true => output::json(&held_answer(label, &hold)),
        false => output::print(&held_text(label)),
    }
}

fn held_answer(label: &Label, hold: &Hold) -> Value {
    json!({ "label": label.as_str(), "held": true, "held_at": hold.held_at, "reason": hold.reason })
}

fn held_text(label: &Label) -> String {
    format!("{label} is held: no rule removes it until `highwater hold {label} --release`.\n")
}

fn released_answer(label: &Label, held: Option<&Hold>) -> Value {
    json!({ "label": label.as_str(), "held": false, "was_held": held.is_some() })
}

fn released_text(label: &Label, held: Option<&Hold>, show: &dyn Fn(Timestamp) -> String) -> String {
    match held {
        Some(hold) => format!("Released {label}, held since {}: {}\n", show(hold.held_at), hold.reason),
        None => format!("Nobody held {label}.\n"),
    }
}

#[cfg(test)]
mod tests {
    use highwater_repository::EventId;

    use super::*;
    use crate::commands::golden::{at, is_golden, show};

    #[test]
    fn holding_and_releasing() {
        let label: Label = "20260131T235959Z".parse().unwrap();
        let hold = Hold {
            version: 1,
            label: label.clone(),
            id: EventId::random(),
            held_at: at(0, 0),
            host: "backups".to_owned(),
            program: "highwater".to_owned(),
            reason: "audit 2026, ask Ada".to_owned(),
        };
        let texts = [
            held_text(&label),
            released_text(&label, Some(&hold), &show),
            released_text(&label, None, &show),
        ];
        is_golden("hold", &texts.concat());
        let answers =
            [held_answer(&label, &hold), released_answer(&label, Some(&hold)), released_answer(&label, None)];
        is_golden("hold-json", &answers.map(|answer| format!("{answer:#}\n")).concat());
    }
}
