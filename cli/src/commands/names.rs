//! `highwater names`: which table a number in the WAL means, as the server tells it now.

use std::time::Duration;

use clap::Args;
use highwater_basebackup::{NAMES_LIMIT, NamesReport, take_names};
use highwater_repository::NamesId;
use serde_json::{Value, json};

use crate::args::parse_duration;
use crate::context::Context;
use crate::error::Error;
use crate::output;

/// Arguments of `names`.
#[derive(Debug, Args)]
#[command(
    long_about = "Store which table a number in the WAL means, as the server tells it now.\n\n\
                  highwater log needs it to show names. Each base backup does it too; run it besides after tables were made \
                  that are to be found by name. Nothing is stored where nothing has changed.",
    after_help = "Examples:
  highwater names
  highwater names --list"
)]
pub struct NamesArgs {
    /// List what is stored already, and ask the server nothing
    #[arg(long, conflicts_with = "timeout")]
    pub list: bool,
    /// The most time that all of it may take
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

pub async fn run(context: &Context, args: &NamesArgs) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    if args.list {
        let mut heads = Vec::new();
        for id in cluster.list_names().await? {
            heads.push((id, cluster.names_head(&id).await?));
        }
        if context.common.json {
            let listed: Vec<Value> =
                heads.iter().map(|(id, head)| json!({"id": id.to_string(), "head": head})).collect();
            return output::json(&listed);
        }
        if heads.is_empty() {
            return output::print(
                "No names are stored yet: highwater names stores them, and so does each backup.\n",
            );
        }
        let lines = heads.iter().map(|(_, head)| {
            let unreadable = match head.unreadable {
                0 => String::new(),
                count => format!(", of {count} the relations could not be read"),
            };
            format!(
                "{}  {:<14} timeline {}  {} in {}{unreadable}\n",
                output::local(head.taken_at),
                head.lsn.to_string(),
                head.timeline,
                output::count(head.relations, "relation"),
                output::count(head.databases, "database"),
            )
        });
        return output::print(&lines.collect::<String>());
    }
    let report = take_names(&context.connection()?, &cluster, args.timeout.unwrap_or(NAMES_LIMIT)).await?;
    if context.common.json {
        return output::json(&as_json(&report));
    }
    output::print(&text(&report, report.id))
}

fn as_json(report: &NamesReport) -> Value {
    json!({
        "id": report.id.to_string(),
        "stored": report.is_new,
        "taken_at": report.head.taken_at,
        "timeline": report.head.timeline,
        "lsn": report.head.lsn,
        "databases": report.head.databases,
        "relations": report.head.relations,
        "unreadable": unreadable_json(&report.unreadable),
        "seconds": report.duration.as_secs_f64(),
    })
}

fn text(report: &NamesReport, id: NamesId) -> String {
    let found = format!(
        "{} in {} at {} on timeline {}",
        output::count(report.head.relations, "relation"),
        output::count(report.head.databases, "database"),
        report.head.lsn,
        report.head.timeline
    );
    let mut text = match report.is_new {
        true => format!("Stored the names of {found}, in {}.\n", output::duration(report.duration)),
        false => format!(
            "Nothing has changed since {} ({}), and nothing was stored: {found}.\n",
            output::local(id.taken_at),
            id.lsn
        ),
    };
    text += &unreadable_text(&report.unreadable);
    text
}

/// Databases whose names are missing, a line each.
pub fn unreadable_text(unreadable: &[(String, String)]) -> String {
    let line = |(database, reason): &(String, String)| {
        format!("The names of database {database} are not among them: {reason}.\n")
    };
    unreadable.iter().map(line).collect()
}

/// The same for programs.
pub fn unreadable_json(unreadable: &[(String, String)]) -> Vec<Value> {
    unreadable.iter().map(|(database, reason)| json!({"database": database, "reason": reason})).collect()
}
