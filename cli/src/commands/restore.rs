//! `highwater restore`: brings the cluster back to a moment.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_catalog::Plan;
use highwater_repository::config::{DEFAULT_PATH, PATH_VARIABLE};
use highwater_restore::{
    Action, Kind, Options, Owner, Progress, RestoreCommand, Role, Step, TablespaceMapping,
};

use super::plan;
use crate::args::{self, RestoreArgs};
use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Bar};

pub async fn run(context: &Context, args: &RestoreArgs) -> Result<(), Error> {
    let options = options(context, args)?;
    let request = plan::request(&args.way)?;
    let mut catalog = context.catalog().await?;
    // R12: nothing is written before the plan is proven.
    let found = plan::find(&mut catalog, &request).await?;
    if args.dry_run {
        return tell(context, &found);
    }
    if !context.common.quiet && !context.common.json {
        output::print(&format!("{}\n", plan::text(&found)))?;
    }
    let watch = Watch::new(context.common.quiet);
    let report = highwater_restore::restore(catalog.cluster(), &found, &options, &watch).await;
    watch.bar.clear();
    let mut report = report?;
    if context.common.quiet || context.common.json {
        // The plan, which has them, was not printed.
        report.notes.extend(found.notes);
    }
    if context.common.json {
        return output::json(&report);
    }
    output::print(&report.to_string())
}

fn tell(context: &Context, found: &Plan) -> Result<(), Error> {
    if context.common.json {
        return output::json(found);
    }
    output::print(&plan::text(found))?;
    output::print("Nothing was written: this was a dry run.\n")
}

fn options(context: &Context, args: &RestoreArgs) -> Result<Options, Error> {
    let mut options = Options::new(absolute(&args.to)?, restore_command(context)?);
    options.kind = if args.takeover { Kind::Takeover } else { Kind::Clone };
    options.action = match args.action {
        args::Action::Promote => Action::Promote,
        args::Action::Pause => Action::Pause,
        args::Action::Shutdown => Action::Shutdown,
    };
    options.role = if args.standby { Role::Standby } else { Role::Primary };
    options.resume = args.resume;
    options.owner = args.owner.as_deref().map(Owner::parse).transpose()?;
    for mapping in &args.tablespaces {
        options.tablespaces.push(mapping.parse::<TablespaceMapping>()?);
    }
    options.asked = asked();
    Ok(options)
}

/// How the restored server fetches WAL: from the same repository, by the same configuration.
fn restore_command(context: &Context) -> Result<RestoreCommand, Error> {
    if context.config.is_none() {
        return Err(Error::usage(
            "a restored server fetches its WAL by a configuration file; hint: write the repository into one and name it with --config",
        ));
    }
    let named = context.common.config.clone().or_else(|| std::env::var_os(PATH_VARIABLE).map(PathBuf::from));
    let config = absolute(&named.unwrap_or_else(|| DEFAULT_PATH.into()))?;
    let mut arguments =
        vec!["--config".into(), config, "--cluster".into(), PathBuf::from(context.cluster_name()?.as_str())];
    if let Some(repository) = &context.common.repository {
        arguments.extend(["--repository".into(), PathBuf::from(repository)]);
    }
    Ok(RestoreCommand::beside_this_program(arguments)?)
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::Io { what: format!("find {}", path.display()), source })
}

/// The command line, for the audit trail. Nothing on it is a secret (R21).
fn asked() -> String {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

struct Watch {
    bar: Bar,
    total: AtomicU64,
    written: AtomicU64,
}

impl Watch {
    fn new(quiet: bool) -> Watch {
        Watch { bar: Bar::new(quiet), total: AtomicU64::new(0), written: AtomicU64::new(0) }
    }
}

impl Progress for Watch {
    fn step(&self, step: Step) {
        let text = match step {
            Step::Proving => "reading the manifest",
            Step::Files => "restoring",
            Step::Syncing => "waiting for the disk",
        };
        self.bar.set(text, 0, None);
    }

    fn total(&self, _files: u64, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    fn written(&self, bytes: u64) {
        let written = self.written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bar.set("restoring", written, Some(self.total.load(Ordering::Relaxed)));
    }
}
