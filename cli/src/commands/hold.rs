//! `highwater hold`: keeping one backup whatever the rules say.

use clap::Args;
use highwater_repository::{Event, Label, Outcome};
use highwater_wal::Timestamp;
use serde_json::json;
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
        if context.common.json {
            return output::json(
                &json!({ "label": label.as_str(), "held": false, "was_held": held.is_some() }),
            );
        }
        return output::print(&match held {
            Some(hold) => {
                format!("Released {label}, held since {}: {}\n", output::local(hold.held_at), hold.reason)
            }
            None => format!("Nobody held {label}.\n"),
        });
    };
    let now = Timestamp::from_datetime(OffsetDateTime::now_utc());
    let hold = backups.hold(label, now, reason).await?;
    cluster.repository().note(&noted("held").with("reason", hold.reason.as_str())).await?;
    if context.common.json {
        return output::json(&json!({
            "label": label.as_str(), "held": true, "held_at": hold.held_at, "reason": hold.reason,
        }));
    }
    output::print(&format!("{label} is held: no rule removes it until `highwater hold {label} --release`.\n"))
}
