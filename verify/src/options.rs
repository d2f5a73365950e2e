//! What is to be verified, and how.

use std::path::PathBuf;
use std::time::Duration;

use highwater_repository::Label;
use highwater_wal::TimelineId;

/// As long runs a verification, unless told otherwise, before it notes how far it is.
const FIRST_CHECKPOINT: Duration = Duration::from_secs(300);

/// What is to be verified, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether everything is read, or only looked whether it is there.
    pub deep: bool,
    /// Whether what the last verification proved is left out.
    pub since_last: bool,
    /// Whether to go on with a verification that was cut short.
    pub resume: bool,
    /// How much of packs and segments is read, in percent: a random part. Only with `deep`.
    pub sample: Option<f64>,
    /// Only this backup and what it needs.
    pub backup: Option<Label>,
    /// Only the WAL of this timeline, and none of the backups.
    pub timeline: Option<TimelineId>,
    /// Whether to tell what can be told of an encrypted repository without an identity.
    pub without_identity: bool,
    /// Where temporary files go: about 80 bytes for each extent that backups name.
    pub scratch: PathBuf,
    /// How many objects are read side by side.
    pub reads: usize,
    /// What makes the sample: the same number gives the same sample.
    pub seed: u64,
    /// After so long it is noted for the first time how far it is, to go on from there; then always later, so that there are few
    /// such notes however long it takes.
    pub checkpoint_after: Duration,
}

impl Options {
    /// A look at all that is there, without reading it.
    pub fn shallow() -> Options {
        Options {
            deep: false,
            since_last: false,
            resume: false,
            sample: None,
            backup: None,
            timeline: None,
            without_identity: false,
            scratch: std::env::temp_dir(),
            reads: std::thread::available_parallelism().map_or(2, usize::from) + 1,
            seed: rand::random(),
            checkpoint_after: FIRST_CHECKPOINT,
        }
    }

    /// Everything is read.
    pub fn deep() -> Options {
        Options { deep: true, ..Options::shallow() }
    }

    /// Whether only a part is looked at that somebody chose.
    pub(crate) fn is_narrow(&self) -> bool {
        self.backup.is_some() || self.timeline.is_some()
    }

    /// Whether an object of this name belongs to the sample.
    pub(crate) fn samples(&self, name: &str) -> bool {
        let Some(percent) = self.sample else { return true };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(name.as_bytes());
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) < percent / 100.0 * (f64::from(u32::MAX) + 1.0)
    }
}

/// Told how far a verification is.
pub trait Progress: Send + Sync {
    /// What is being looked at, and how far it is in bytes, where that is known.
    fn at(&self, phase: &str, done_bytes: u64, total_bytes: Option<u64>);
}

impl Progress for () {
    fn at(&self, _: &str, _: u64, _: Option<u64>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_about_as_large_as_was_asked_for() {
        let of = |percent, seed| {
            let options = Options { sample: Some(percent), seed, ..Options::deep() };
            (0..10_000).filter(|number| options.samples(&format!("object {number}"))).count()
        };
        assert_eq!(of(100.0, 1), 10_000);
        assert_eq!(of(0.0, 1), 0);
        assert!((800..1200).contains(&of(10.0, 1)));
        assert_eq!(of(10.0, 2), of(10.0, 2));
    }
}
