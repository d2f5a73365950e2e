//! Waiting for the WAL that a backup needs, and looking at it (R9).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use highwater_repository::{ClusterRepository, Error as RepositoryError};
use highwater_wal::{Check, SegmentName, SegmentSize, WalFile};
use tokio::time::{Instant, sleep};

use crate::options::Options;
use crate::progress::{Phase, Progress};
use crate::server::ServerFacts;
use crate::wal_needed::NeededWal;
use crate::wal_proof::{Doubt, Expected, Proof};
use crate::{Error, Result};

/// Between two looks for a segment: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Bytes of a segment that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Waits until every segment is there and has been verified. Answers whether all their records were read, which takes an
/// identity where the repository is encrypted.
pub(crate) async fn wait_for(
    needed: &NeededWal,
    expected: Expected,
    cluster: &ClusterRepository,
    options: &Options,
    progress: &dyn Progress,
) -> Result<bool> {
    let proof = match options.archive_check {
        Check::Full => Some(Proof::new(needed.size(), expected)),
        Check::Header => None,
    };
    let scratch = Arc::new(tempfile::tempfile_in(&options.scratch)?);
    let from_standby = expected.from_standby;
    let mut archive = Archive {
        needed,
        cluster,
        options,
        progress,
        scratch,
        proof,
        from_standby,
        can_read: true,
        verified: 0,
    };
    for segment in needed.names() {
        archive.wait_for(segment).await?;
        archive.verified += 1;
    }
    archive.tell(None);
    archive.finish()
}

struct Archive<'a> {
    needed: &'a NeededWal,
    cluster: &'a ClusterRepository,
    options: &'a Options,
    progress: &'a dyn Progress,
    /// Holds one segment after another.
    scratch: Arc<File>,
    proof: Option<Proof>,
    from_standby: bool,
    /// Whether what is encrypted can be read here.
    can_read: bool,
    verified: u64,
}

impl Archive<'_> {
    async fn wait_for(&mut self, segment: SegmentName) -> Result<()> {
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.look_at(segment).await {
                Err(Error::Repository(error)) if error.is_not_found() => {}
                other => return other,
            }
            let left = self.options.archive_timeout.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(self.missing(segment).await);
            }
            self.tell(Some(segment));
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Verifies the segment; a repository's error of kind not-found where it is not there.
    async fn look_at(&mut self, segment: SegmentName) -> Result<()> {
        let file = WalFile::Segment(segment);
        if self.can_read {
            match self.cluster.get_wal_into(file, self.scratch.as_ref()).await {
                Err(RepositoryError::Locked { .. }) => {
                    self.can_read = false;
                    self.progress.note(
                        "there is no identity on this host that reads the repository: of the WAL that the backup needs it is \
                         only made sure that it is there",
                    );
                }
                other => {
                    let head = other?;
                    return self.read(segment, head.plain.length).await;
                }
            }
        }
        let key = self.cluster.section().wal(file);
        self.cluster.repository().store().size(&key).await.map_err(RepositoryError::Store)?;
        Ok(())
    }

    /// Reads the records of the segment that lies in the scratch file.
    async fn read(&mut self, segment: SegmentName, length: u64) -> Result<()> {
        let size = self.needed.size();
        if length != size.bytes() {
            let reason = format!("it has {length} bytes and the server's segments have {}", size.bytes());
            return Err(Error::WrongWal { segment, reason });
        }
        let Some(mut proof) = self.proof.take() else { return Ok(()) };
        let scratch = Arc::clone(&self.scratch);
        // A segment takes some milliseconds, which others on this thread should not wait for.
        let reading = tokio::task::spawn_blocking(move || {
            read_pieces(&scratch, segment, size, &mut proof)?;
            Ok::<_, Error>(proof)
        });
        self.proof = Some(reading.await.map_err(|_| Error::Internal("a thread that ended"))??);
        Ok(())
    }

    fn finish(self) -> Result<bool> {
        let Some(proof) = self.proof.filter(|_| self.can_read) else { return Ok(false) };
        let segment = self.needed.last().ok_or(Error::Internal("a backup without WAL"))?;
        let end = proof.finish().map_err(|doubt| doubt.about(segment))?;
        end.map_err(|end| Error::WalEnds { end, needed: self.needed.stop() })?;
        Ok(true)
    }

    fn tell(&self, missing: Option<SegmentName>) {
        let (verified, needed) = (self.verified, self.needed.count());
        self.progress.phase(&Phase::Wal {
            verified,
            needed,
            missing: missing.map(|segment| segment.to_string()),
        });
    }

    async fn missing(&self, segment: SegmentName) -> Error {
        let archiver = match ServerFacts::ask(&self.options.connection, None).await {
            Ok(facts) => facts.archiver.to_string(),
            Err(error) => format!("what its archiver does could not be asked ({error})"),
        };
        Error::WalMissing {
            segment: segment.to_string(),
            repository: self.cluster.repository().url(),
            waited: self.options.archive_timeout,
            archiver,
            more: match self.from_standby {
                true => {
                    "; the primary has to archive this segment: SELECT pg_switch_wal() there completes the one it writes"
                }
                false => "",
            },
        }
    }
}

impl Doubt {
    fn about(self, segment: SegmentName) -> Error {
        match self {
            Doubt::Refused(refusal) => Error::WrongWal { segment, reason: refusal.to_string() },
            Doubt::Other(reason) => Error::WrongWal { segment, reason },
        }
    }
}

fn read_pieces(scratch: &File, segment: SegmentName, size: SegmentSize, proof: &mut Proof) -> Result<()> {
    for offset in (0..size.bytes()).step_by(PIECE_BYTES as usize) {
        let mut bytes = vec![0; PIECE_BYTES.min(size.bytes() - offset) as usize];
        scratch.read_exact_at(&mut bytes, offset)?;
        proof.push(segment, segment.start(size) + offset, bytes).map_err(|doubt| doubt.about(segment))?;
    }
    Ok(())
}
