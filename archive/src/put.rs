//! Putting one file into every repository (R1).
//!
//! Each repository has a thread and a runtime of its own: one whose file system hangs, or whose network is slow, must not
//! keep the file from the others. While the file is checked and compressed they connect and see that the repository is
//! one and knows the cluster, which saves the time of a round trip or two on a remote store.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use highwater_repository::config::RepositoryConfig;
use highwater_repository::{ClusterRepository, Content, EncodedWal, Plain, Repository, Stored};
use highwater_storage::Gate;
use highwater_wal::{SegmentSize, Summary, Timestamp, WalFile};

use crate::check::{Checking, Known};
use crate::error::Error;
use crate::job::Job;
use crate::source::Source;

/// What came of one repository.
#[derive(Debug)]
pub struct Answer {
    /// The repository, for messages.
    pub repository: String,
    /// Whether the file was new there, or why it isn't there.
    pub result: Result<Stored, Error>,
}

/// A file that was found good and compressed, for one repository.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: WalFile,
    encoded: EncodedWal,
    summary: Option<Summary>,
    written: Option<Timestamp>,
}

impl Prepared {
    /// Length and digest of the file.
    pub fn plain(&self) -> Plain {
        self.encoded.plain()
    }

    /// The same, whose object must not come to be before `gate` opens.
    pub fn behind(mut self, gate: Gate) -> Prepared {
        self.encoded = self.encoded.behind(gate);
        self
    }
}

/// Checks the file and puts it into each of `repositories`, whatever becomes of the others.
///
/// # Errors
/// What is wrong with the file itself; then no repository has got it.
pub fn archive(job: &Job<'_>, repositories: &[RepositoryConfig]) -> Result<Vec<Answer>, Error> {
    thread::scope(|scope| {
        let mut connected = Vec::new();
        let mut senders: Vec<Sender<Prepared>> = Vec::new();
        let mut uploads = Vec::new();
        for config in repositories {
            let repository = Repository::connect(config);
            let (sender, receiver) = channel();
            if let Ok(repository) = &repository {
                connected.push(repository.clone());
                senders.push(sender);
            }
            let upload = move || upload(job, repository?, &receiver);
            uploads.push((config, thread::Builder::new().spawn_scoped(scope, upload)));
        }
        let prepared = prepare(job, &connected).map(|prepared| {
            for (prepared, sender) in prepared.into_iter().zip(&senders) {
                // An upload that has ended already has an answer.
                let _ = sender.send(prepared);
            }
        });
        drop(senders);
        let mut answers = Vec::new();
        for (config, thread) in uploads {
            let result = match thread {
                // A panic has ended the program before.
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(error) => Err(Error::Thread(error)),
            };
            let repository = config.label().to_owned();
            answers.extend(result.transpose().map(|result| Answer { repository, result }));
        }
        prepared.map(|()| answers)
    })
}

/// Checks and compresses the file, for each of `repositories` in their order.
pub(crate) fn prepare(job: &Job<'_>, repositories: &[Repository]) -> Result<Vec<Prepared>, Error> {
    let Some(first) = repositories.first() else {
        return check_only(job.file, &job.source, &job.known).map(|_| Vec::new());
    };
    let mut check = begin(job.file, &job.source, &job.known)?;
    let (source, content) = (&job.source, job.source.content());
    let encoded = source.read(first.encode_wal_while(content, &mut |block| check.push(block)))?;
    let summary = check.finish()?;
    let mut done = vec![(first.compression(), encoded)];
    for repository in repositories {
        let compression = repository.compression();
        if !done.iter().any(|(other, _)| *other == compression) {
            let encoded = source.read(repository.encode_wal_while(content, &mut |_| {}))?;
            // What was checked is what was read first.
            if done.iter().any(|(_, first)| first.plain() != encoded.plain()) {
                return Err(source.changed());
            }
            done.push((compression, encoded));
        }
    }
    let of = |repository: &Repository| {
        let mut encoded = done.iter().filter(|(compression, _)| *compression == repository.compression());
        let (_, encoded) = encoded.next()?;
        Some(Prepared {
            file: job.file,
            encoded: encoded.clone(),
            summary: summary.clone(),
            written: job.written,
        })
    };
    Ok(repositories.iter().filter_map(of).collect())
}

fn begin(file: WalFile, source: &Source, known: &Known) -> Result<Checking, Error> {
    Checking::begin(file, source.content().length(), &source.beginning, known)
}

/// Checks the file and does no more; gives the summary of a segment.
pub(crate) fn check_only(file: WalFile, source: &Source, known: &Known) -> Result<Option<Summary>, Error> {
    let mut check = begin(file, source, known)?;
    source.show(|block| check.push(block))?;
    check.finish()
}

/// Puts the file that comes through `prepared` into one repository; `None` when none comes because it was refused.
fn upload(
    job: &Job<'_>,
    repository: Repository,
    prepared: &Receiver<Prepared>,
) -> Result<Option<Stored>, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    runtime.block_on(async {
        let cluster = repository.cluster(&job.cluster.name, job.system_id);
        let segment_size = segment_size(&cluster).await?;
        let Ok(prepared) = prepared.recv() else { return Ok(None) };
        put(&cluster, segment_size, prepared).await.map(Some)
    })
}

/// Sees that the repository is one and knows the cluster, and answers the size of its segments.
pub(crate) async fn segment_size(cluster: &ClusterRepository) -> Result<SegmentSize, Error> {
    let (repository_facts, cluster_facts) = tokio::join!(cluster.repository().facts(), cluster.facts());
    repository_facts?;
    Ok(cluster_facts?.segment_size)
}

/// Puts a file into a repository whose cluster has segments of this size.
pub(crate) async fn put(
    cluster: &ClusterRepository,
    segment_size: SegmentSize,
    prepared: Prepared,
) -> Result<Stored, Error> {
    let Prepared { file, encoded, summary, written } = prepared;
    let found = summary.as_ref().map(|summary| summary.segment_size).filter(|size| *size != segment_size);
    if let Some(found) = found {
        return Err(Error::SegmentSize {
            cluster: cluster.name().to_string(),
            system_id: cluster.system_id(),
            known: segment_size.bytes(),
            found: found.bytes(),
        });
    }
    match cluster.put_encoded_wal(file, encoded, summary, written).await {
        Ok(stored) => Ok(stored),
        Err(highwater_repository::Error::Different(different)) => Err(Error::Different {
            repository: cluster.repository().url(),
            cluster: cluster.name().to_string(),
            system_id: cluster.system_id(),
            file,
            different,
        }),
        Err(error) => Err(error.into()),
    }
}
