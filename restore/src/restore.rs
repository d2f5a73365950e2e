//! The order in which a restore is done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_catalog::Plan;
use highwater_repository::manifest::PostgresBackup;
use highwater_repository::marker::{self, Marker};
use highwater_repository::{ClusterRepository, Event, ExtentReader, Label, ManifestReader, Outcome};
use highwater_wal::Timestamp;

use crate::fill::{Filling, fill};
use crate::mark::{Mark, Subject};
use crate::options::{Options, Role};
use crate::owner::{self, Owner};
use crate::places::{
    AUTO_CONF, BACKUP_LABEL, CONTROL_FILE, Places, RECOVERY_SIGNAL, STANDBY_SIGNAL, VERSION_FILE, known,
};
use crate::progress::{Progress, Step};
use crate::report::{Machine, Report, RestoredTablespace, kind_note, start_command, target_note};
use crate::root::Root;
use crate::settings::{follows, merge, settings};
use crate::survey::Survey;
use crate::sync::{SyncMethod, give_away, sync_all};
use crate::target::{Found, Occupied, check_apart, look, occupy, resolve};
use crate::{Error, Result, proof, space, tablespaces};

/// `postgresql.auto.conf` is not longer than this.
const MAX_AUTO_CONF_BYTES: u64 = 4 << 20;
/// Permissions of a data directory, by whether a group may read it (`PG_DIR_MODE_…`, file_perm.h, PostgreSQL 15).
const FOLDER_MODES: [u32; 2] = [0o700, 0o750];
/// Permissions of the files in it.
const FILE_MODES: [u32; 2] = [0o600, 0o640];

/// Rebuilds a data directory by a plan, so that a server started over it recovers to the plan's stop.
///
/// Before anything is written, the plan is compared with the manifest, the whole manifest is read, and the folders are looked at
/// (R12, R13). `global/pg_control` is written last (R14). An interrupted restore leaves what it has written and a mark, and
/// can be gone on with ([`Options::resume`]). It is noted in the audit trail; where that cannot be written to, the report says
/// so.
///
/// It wants a tokio runtime with several threads: fetching and writing go on side by side.
///
/// # Errors
/// [`Error::Option`] and [`Error::Target`] where it cannot be done as asked, [`Error::Manifest`] and [`Error::Content`] where
/// something in the repository is damaged or missing; those of the store and of the disk.
pub async fn restore(
    cluster: &ClusterRepository,
    plan: &Plan,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report> {
    let begun = Instant::now();
    progress.step(Step::Proving);
    let prepared = Prepared::new(cluster, plan, options).await?;
    let mut notes = Vec::new();
    let note = async |outcome, done: Option<(&Done, Duration)>, error: Option<&Error>| {
        let mut event = Event::new("restore", Some(cluster.name()), outcome)
            .with("restore", prepared.mark.restore_id.to_string())
            .with("system-id", cluster.system_id().to_string())
            .with("backup", plan.backup.label.as_str())
            .with("asked", options.asked.as_str())
            .with("kind", prepared.kind_name())
            .with("target", prepared.target.display().to_string());
        // What the next plan makes its estimate from. What the server replays later is not among it.
        if let Some((done, took)) = done.filter(|(done, _)| !done.was_complete) {
            event = event.with("bytes", done.written_bytes).with("seconds", took.as_secs_f64());
        }
        if let Some(error) = error {
            event = event.with("error", error.to_string());
        }
        cluster.repository().note(&event).await
    };
    if let Err(error) = note(Outcome::Begun, None, None).await {
        notes.push(format!("The restore could not be noted in the repository: {error}"));
    }
    let restored = prepared.carry_out(progress).await;
    let noted = match &restored {
        Ok(done) => note(Outcome::Done, Some((done, begun.elapsed())), None).await,
        Err(error) => note(Outcome::Failed, None, Some(error)).await,
    };
    let done = restored?;
    if let (Err(error), true) = (noted, notes.is_empty()) {
        notes.push(format!("The end of the restore could not be noted in the repository: {error}"));
    }
    Ok(prepared.report(done, notes, begun))
}

/// Proves that [`restore`] can begin, as it does itself first; writes nothing.
///
/// # Errors
/// Those that [`restore`] has before it writes.
pub async fn prove(cluster: &ClusterRepository, plan: &Plan, options: &Options) -> Result<()> {
    Prepared::new(cluster, plan, options).await.map(drop)
}

/// Everything that is known before anything is written.
struct Prepared<'a> {
    cluster: &'a ClusterRepository,
    plan: &'a Plan,
    options: &'a Options,
    label: Label,
    facts: PostgresBackup,
    /// Where the data directory goes, links followed.
    target: PathBuf,
    /// Where each tablespace outside it goes.
    outside: BTreeMap<u32, PathBuf>,
    survey: Survey,
    /// The content of `global/pg_control`.
    control: Vec<u8>,
    major: u32,
    mark: Mark,
    owner: Option<Owner>,
    resumed: bool,
    /// Whether the interrupted restore had put `global/pg_control` in its place already.
    finished: bool,
}

/// What carrying it out did.
struct Done {
    written_bytes: u64,
    was_complete: bool,
}

impl<'a> Prepared<'a> {
    /// Proves that it can be done. Nothing is written.
    async fn new(
        cluster: &'a ClusterRepository,
        plan: &'a Plan,
        options: &'a Options,
    ) -> Result<Prepared<'a>> {
        check_role(plan, options)?;
        let label: Label = plan.backup.label.parse()?;
        let damaged = |reason| Error::Manifest { label: label.to_string(), reason };
        let mut manifest = ManifestReader::open(&cluster.backups(), &label).await?;
        let facts = proof::check_head(manifest.head(), plan, cluster.system_id()).map_err(damaged)?.clone();

        let target = resolve(&options.target)?;
        let mut outside = tablespaces::places(&facts.tablespaces, &options.tablespaces)?;
        for place in outside.values_mut() {
            *place = resolve(place)?;
        }
        check_apart(&occupied(cluster, &target, &outside))?;
        let found = look(&target, options.resume)?;
        let finished = match found {
            Found::Empty => false,
            Found::Interrupted(ref mark) => mark.is_whole && has_control(&Root::open(&target)?)?,
        };
        if !finished {
            outside.values().try_for_each(|place| look(place, options.resume).map(drop))?;
        }

        let subject = Subject {
            repository: cluster.repository().facts().await?.repository,
            cluster: cluster.name().clone(),
            system_id: cluster.system_id(),
            backup: label.clone(),
            backup_finished_at: manifest.head().finished_at,
            request: Subject::request_of(plan)?,
            kind: options.kind,
            tablespaces: outside.iter().map(|(oid, place)| (*oid, place.display().to_string())).collect(),
        };
        let (mark, resumed) = match found {
            Found::Empty => (Mark::new(subject, Owner::choose(options.owner, &target)?), false),
            Found::Interrupted(mark) => {
                mark.check_same(&subject, options.owner.or(mark.owner), &target)?;
                (*mark, true)
            }
        };

        let survey = Survey::read(&mut manifest, &outside).await?;
        if resumed && !finished {
            survey.expected.check(&Root::open(&target)?)?;
        }
        let extents = ExtentReader::new(&cluster.backups());
        let control = survey.content(CONTROL_FILE, &extents).await?;
        proof::check_control(&control, facts.system_id).map_err(damaged)?;
        let backup_label = survey.content(BACKUP_LABEL, &extents).await?;
        proof::check_backup_label(&backup_label, &facts).map_err(damaged)?;
        let version = survey.content(VERSION_FILE, &extents).await?;
        let major = proof::check_version(&version, &facts).map_err(damaged)?;
        if !resumed {
            let folder = |(tablespace, bytes): (&Option<u32>, &u64)| {
                let place = tablespace.as_ref().and_then(|oid| outside.get(oid)).unwrap_or(&target);
                (place.as_path(), *bytes)
            };
            space::check_room(survey.room.iter().map(folder))?;
        }
        let owner = mark.owner;
        Ok(Prepared {
            cluster,
            plan,
            options,
            label,
            facts,
            target,
            outside,
            survey,
            control,
            major,
            mark,
            owner,
            resumed,
            finished,
        })
    }

    async fn carry_out(&self, progress: &dyn Progress) -> Result<Done> {
        if self.finished {
            self.tidy_up()?;
            return Ok(Done { written_bytes: 0, was_complete: true });
        }
        let places = Arc::new(self.occupy()?);
        // R14: before the files are whole there is none, whoever put one there.
        if has_control(&places.data)? {
            places.data.remove(&known(CONTROL_FILE)?)?;
        }
        self.write_marker(&places.data)?;
        progress.step(Step::Files);
        progress.total(self.survey.files, self.survey.bytes);
        let sync = SyncMethod::of(&places)?;
        let filling = Filling {
            places: Arc::clone(&places),
            extents: ExtentReader::new(&self.cluster.backups()),
            mark: self.mark.clone(),
            resumed: self.resumed,
            sync,
            checkpoint_interval: self.options.checkpoint_interval,
        };
        let manifest = ManifestReader::open(&self.cluster.backups(), &self.label).await?;
        let written_bytes = fill(filling, manifest, progress).await?;
        places.link_tablespaces()?;
        self.write_settings(&places.data)?;

        progress.step(Step::Syncing);
        let (owner, mode, synced) = (self.owner, FOLDER_MODES[self.group()], Arc::clone(&places));
        let syncing = tokio::task::spawn_blocking(move || {
            give_away(&synced, owner, mode)?;
            sync_all(&synced, sync)
        });
        syncing.await.map_err(|error| Error::Thread(error.to_string()))??;
        let mut mark = self.mark.clone();
        mark.is_whole = true;
        mark.write(&places.data)?;
        self.write_control(&places.data)?;
        // The tablespaces' first, so that what is left over can always be told from the data directory.
        places.roots().try_for_each(Mark::remove)?;
        progress.written(self.control.len() as u64);
        Ok(Done { written_bytes: written_bytes + self.control.len() as u64, was_complete: false })
    }

    /// Opens the folders and marks them, the data directory first: a tablespace with a mark always belongs to one that has
    /// the same.
    fn occupy(&self) -> Result<Places> {
        let mut occupied = Vec::new();
        for place in [&self.target].into_iter().chain(self.outside.values()) {
            let (root, mark) = occupy(place, self.options.resume)?;
            match mark {
                Some(mark) if mark.restore_id == self.mark.restore_id => {}
                Some(mark) => {
                    let reason = format!("holds a part of another restore, {}", mark.restore_id);
                    return Err(Error::target(
                        place,
                        reason,
                        "empty the folder, or map the tablespace elsewhere",
                    ));
                }
                None => self.mark.write(&root)?,
            }
            occupied.push(root);
        }
        let mut occupied = occupied.into_iter();
        let data = occupied.next().ok_or_else(|| Error::Thread("no folder was opened".to_owned()))?;
        Ok(Places { data, tablespaces: self.outside.keys().copied().zip(occupied).collect() })
    }

    /// 1 where a group may read the data directory.
    fn group(&self) -> usize {
        usize::from(self.survey.group_access)
    }

    /// Writes a file with the owner and permissions of all others.
    fn write(&self, root: &Root, name: &str, content: &[u8]) -> Result<()> {
        let mode = FILE_MODES[self.group()];
        root.replace(&known(name)?, content, |file| owner::finish(file, self.owner, mode))
    }

    /// R5: before the first file of the cluster.
    fn write_marker(&self, data: &Root) -> Result<()> {
        let marker = Marker {
            version: Marker::VERSION,
            kind: self.options.kind,
            cluster: self.cluster.name().clone(),
            system_id: self.cluster.system_id(),
            restore_id: self.mark.restore_id,
            restored_at: Timestamp::from_datetime(time::OffsetDateTime::now_utc()),
            target: self.options.asked.clone(),
        };
        let mut text =
            serde_json::to_vec_pretty(&marker).map_err(|error| Error::Thread(error.to_string()))?;
        text.push(b'\n');
        self.write(data, marker::FILE_NAME, &text)
    }

    fn write_settings(&self, data: &Root) -> Result<()> {
        let existing = data.read_small(&known(AUTO_CONF)?, MAX_AUTO_CONF_BYTES)?.unwrap_or_default();
        self.write(data, AUTO_CONF, &merge(&existing, &settings(self.plan, self.options, self.major)))?;
        let (signal, other) = match self.options.role {
            Role::Primary => (RECOVERY_SIGNAL, STANDBY_SIGNAL),
            Role::Standby => (STANDBY_SIGNAL, RECOVERY_SIGNAL),
        };
        // The interrupted restore may have been of the other role.
        data.remove(&known(other)?)?;
        self.write(data, signal, b"")
    }

    /// R14: from the moment that this has its name, PostgreSQL starts.
    fn write_control(&self, data: &Root) -> Result<()> {
        let path = known(CONTROL_FILE)?;
        let mode = u32::from(self.survey.mode(CONTROL_FILE)) & 0o777;
        data.replace(&path, &self.control, |file| owner::finish(file, self.owner, mode))?;
        match path.parent() {
            Some(folder) => data.folder(&folder)?.sync(),
            None => data.sync(),
        }
    }

    /// Removes what marks are left: a server may have run over everything else since.
    fn tidy_up(&self) -> Result<()> {
        for place in self.outside.values().chain([&self.target]).filter(|place| place.is_dir()) {
            let root = Root::open(place)?;
            if Mark::read(&root)?.is_some_and(|mark| mark.restore_id == self.mark.restore_id) {
                Mark::remove(&root)?;
            }
        }
        Ok(())
    }

    fn kind_name(&self) -> &'static str {
        match self.options.kind {
            marker::Kind::Clone => "clone",
            marker::Kind::Takeover => "takeover",
        }
    }

    fn report(&self, done: Done, mut notes: Vec<String>, begun: Instant) -> Report {
        let (plan, options) = (self.plan, self.options);
        let machine = Machine::look(self.major, self.owner, self.survey.has_main_conf);
        notes.insert(0, kind_note(options.kind, plan));
        if let Some(conf) = &machine.main_conf {
            notes.push(format!(
                "postgresql.conf is not in the backup: the server kept it elsewhere. {} is named above; name another if that is not it.",
                conf.display()
            ));
        }
        notes.extend(target_note(&settings(plan, options, self.major), options.role));
        notes.extend(options.notes.iter().cloned());
        let tablespaces = self.facts.tablespaces.iter().filter_map(|tablespace| {
            let to = self.outside.get(&tablespace.oid)?.clone();
            Some(RestoredTablespace { oid: tablespace.oid, from: tablespace.location.clone(), to })
        });
        Report {
            target: self.target.clone(),
            cluster: self.cluster.name().to_string(),
            backup: self.label.to_string(),
            kind: options.kind,
            role: options.role,
            action: options.action,
            timeline: plan.timeline,
            stop: (!follows(plan, options.role)).then_some(plan.stop),
            asked: plan.request.target.clone(),
            last_commit: plan.last_before.as_ref().map(|transaction| transaction.time),
            segments: plan.segments,
            wal_bytes: plan.wal_bytes,
            files: self.survey.files,
            bytes: self.survey.bytes,
            written_bytes: done.written_bytes,
            seconds: begun.elapsed().as_secs_f64(),
            tablespaces: tablespaces.collect(),
            start: start_command(&machine, &self.target),
            notes,
            was_complete: done.was_complete,
        }
    }
}

fn has_control(data: &Root) -> Result<bool> {
    Ok(data.look(&known(CONTROL_FILE)?)?.is_some())
}

/// A standby goes on with what is archived later: it has no moment to stop at.
fn check_role(plan: &Plan, options: &Options) -> Result<()> {
    if options.role == Role::Primary || follows(plan, options.role) {
        return Ok(());
    }
    Err(Error::Option {
        option: "--standby",
        reason: format!(
            "a standby follows the archive to its end, and does not stop at {}",
            plan.request.target
        ),
        hint: "use --latest with it; or leave it away, and use --action pause to look at a moment".to_owned(),
    })
}

/// The folders of the restore, and that of the repository where it is one.
fn occupied(
    cluster: &ClusterRepository,
    target: &std::path::Path,
    outside: &BTreeMap<u32, PathBuf>,
) -> Vec<Occupied> {
    let mut folders = vec![Occupied { what: "the data directory".to_owned(), path: target.to_owned() }];
    for (oid, place) in outside {
        folders.push(Occupied { what: format!("tablespace {oid}"), path: place.clone() });
    }
    let url = cluster.repository().url();
    if let Some(path) = url.strip_prefix("file://").and_then(|path| std::fs::canonicalize(path).ok()) {
        folders.push(Occupied { what: "the repository".to_owned(), path });
    }
    folders
}
