//! `highwater restore`: brings the cluster back to a moment.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_repository::{ClusterName, Config, Repository, RepositoryConfig};
use highwater_restore::{
    Action, Kind, Options, Owner, Progress, RestoreCommand, Role, Step, TablespaceMapping,
};

use super::plan::{self, Estimate};
use crate::args::{self, RestoreArgs};
use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Bar};

pub async fn run(context: &Context, args: &RestoreArgs) -> Result<(), Error> {
    let options = options(context, args).await?;
    let request = plan::request(&args.way)?;
    let mut catalog = context.catalog().await?;
    // R12: nothing is written before the plan is proven.
    let found = plan::find(&mut catalog, &request).await?;
    if args.dry_run {
        highwater_restore::prove(catalog.cluster(), &found, &options).await?;
        let estimate = Estimate::make(&catalog, &found).await;
        return plan::tell(context, &found, &estimate, "Nothing was written: this was a dry run.\n");
    }
    if !context.common.quiet && !context.common.json {
        plan::tell(context, &found, &Estimate::make(&catalog, &found).await, "\n")?;
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

async fn options(context: &Context, args: &RestoreArgs) -> Result<Options, Error> {
    let way = WayToWal::find(context)?;
    let mut options = Options::new(absolute(&args.to)?, way.command()?);
    options.notes.extend(way.note());
    options.notes.extend(way.unreadable().await);
    options.kind = if args.takeover { Kind::Takeover } else { Kind::Clone };
    if args.takeover {
        options.notes.extend(refused_archiving(context, &options.target));
    }
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

/// What the archive command will say of a cluster that was taken over into another folder than the configured one.
fn refused_archiving(context: &Context, target: &Path) -> Option<String> {
    let cluster = context.cluster_config().ok()?;
    let configured = cluster.data_directory.as_ref()?;
    (resolved(configured) != resolved(target)).then(|| {
        format!(
            "WARNING: the configuration says data-directory = '{}' for cluster {}, and this one lies in {}: highwater-archive-cmd refuses \
             to archive from here until data-directory says so, and WAL piles up in pg_wal meanwhile",
            configured.display(),
            cluster.name,
            target.display()
        )
    })
}

/// A folder without links on the way to it, though it need not be there yet.
fn resolved(folder: &Path) -> PathBuf {
    let of_parent = || {
        let parent = std::fs::canonicalize(folder.parent()?).ok()?;
        Some(parent.join(folder.file_name()?))
    };
    std::fs::canonicalize(folder).ok().or_else(of_parent).unwrap_or_else(|| folder.to_owned())
}

/// How the restored server fetches WAL: by the configuration's file, since PostgreSQL does not have the environment of this
/// command.
struct WayToWal {
    config: PathBuf,
    cluster: ClusterName,
    /// Variables of this command's environment that it does without.
    variables: Vec<String>,
    /// The other repositories in the file, which the server asks as well.
    others: Vec<RepositoryConfig>,
}

/// How long another repository is waited for that only a note depends on.
const PATIENCE_FOR_OTHERS: Duration = Duration::from_secs(5);

impl WayToWal {
    /// # Errors
    /// [`Error::Usage`] where the file does not lead to the repository that the plan is proven against (R12).
    fn find(context: &Context) -> Result<WayToWal, Error> {
        let config = absolute(&Config::path(context.common.config.as_deref()))?;
        let used = context.repository_config()?;
        let refused = |reason: String| {
            Err(Error::usage(format!(
                "the restored server fetches its WAL by the configuration {}, and not by options or the environment of this \
                 command: {reason}; hint: write [repository] with this repository's settings into a configuration and name it \
                 with --config",
                config.display()
            )))
        };
        let file = match Config::of_file(&config) {
            Ok(file) => file,
            Err(error) => return refused(error.to_string()),
        };
        let is_used = |known: &&RepositoryConfig| {
            known.store.url == used.store.url && known.store.endpoint == used.store.endpoint
        };
        let (same, others): (Vec<_>, Vec<_>) =
            file.repositories.iter().cloned().partition(|known| is_used(&known));
        if same.is_empty() {
            let known: Vec<String> = file.repositories.iter().map(RepositoryConfig::label).collect();
            return refused(format!(
                "it names {}, and the plan is made for {}",
                known.join(", "),
                used.store.url
            ));
        }
        let variables = Config::repository_variables(std::env::vars_os().map(|(name, _)| name));
        Ok(WayToWal { config, cluster: context.cluster_name()?, variables, others })
    }

    fn command(&self) -> Result<RestoreCommand, Error> {
        let cluster = PathBuf::from(self.cluster.as_str());
        let arguments = ["--config".into(), self.config.clone(), "--cluster".into(), cluster];
        Ok(RestoreCommand::beside_this_program(arguments)?)
    }

    /// Secrets may stay in the environment; the server needs them in its own, then.
    fn note(&self) -> Option<String> {
        let names = (!self.variables.is_empty()).then(|| self.variables.join(", "))?;
        Some(format!(
            "This command had {names} in its environment. Start the server with what it needs of that, too: it reads its WAL by {}.",
            self.config.display()
        ))
    }
}

impl WayToWal {
    /// The repositories that the plan does not need and that cannot be read: the server comes to the end of its WAL only
    /// when each of them has said that it has no more (R6).
    async fn unreadable(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for other in &self.others {
            let mut hasty = other.clone();
            hasty.store.most_retry_budget = Some(PATIENCE_FOR_OTHERS);
            if let Err(error) = Repository::open(&hasty).await {
                notes.push(format!(
                    "Repository {} cannot be read now ({error}). The restored server asks it, too, and does not open before it \
                     answers: if it is gone, take it out of {}.",
                    other.label(),
                    self.config.display()
                ));
            }
        }
        notes
    }
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
