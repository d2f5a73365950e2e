//! `highwater receive`: WAL as the server writes it, until told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use highwater_archive::Service;
use highwater_receiver::{Notifier, Policy, Receiver, Settings, State, Stop, WholeSegments};
use highwater_replication::SlotName;
use highwater_repository::{ClusterConfig, Repository, RepositoryConfig};

use crate::args::{parse_bytes, parse_duration};
use crate::context::Context;
use crate::error::Error;

/// The shortest interval between two pieces, and the longest.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// A page of WAL.
const LEAST_FLUSH_BYTES: u64 = 8 << 10;

/// Arguments of `receive`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater receive --slot highwater --create-slot
  highwater receive --slot highwater --flush-interval 250ms --state-file /run/highwater/receive.json
  highwater receive --slot highwater --synchronous    # with synchronous_standby_names = 'highwater'

Where the repository is remote, highwater-archive-cmd on the same machine, called by the same user with the same configuration, \
has it archive the server's files.

It runs until SIGTERM or SIGINT; then it puts what has come, and ends.")]
pub struct ReceiveArgs {
    /// The replication slot that keeps WAL on the server until it is in the repository
    #[arg(long, value_name = "NAME")]
    pub slot: Option<SlotName>,
    /// Make the slot where it is not there
    #[arg(long, requires = "slot")]
    pub create_slot: bool,
    /// WAL waits no longer than this before it is put into the repository
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub flush_interval: Duration,
    /// WAL is put as soon as so many bytes wait
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = parse_flush_bytes)]
    pub flush_bytes: u64,
    /// Put WAL at once: a commit of a server with synchronous_standby_names = 'highwater' returns when it is in the repository
    #[arg(long)]
    pub synchronous: bool,
    /// Write the receiver's state into this file, as JSON, once a second
    #[arg(long, value_name = "FILE")]
    pub state_file: Option<PathBuf>,
}

/// As [`parse_bytes`], and not so little that each record would be an object.
fn parse_flush_bytes(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if bytes >= LEAST_FLUSH_BYTES => Ok(bytes),
        _ => Err("it is less than 8K; hint: --synchronous puts WAL at once".to_owned()),
    }
}

/// As [`parse_duration`], and `250ms`.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = match text.strip_suffix("ms") {
        Some(number) => {
            number.parse().map(Duration::from_millis).map_err(|_| "it is no number".to_owned())?
        }
        None => parse_duration(text)?,
    };
    match INTERVALS.contains(&interval) {
        true => Ok(interval),
        false => Err("it is not from 10ms to 1h".to_owned()),
    }
}

pub async fn run(context: &Context, args: &ReceiveArgs) -> Result<(), Error> {
    let cluster = context.cluster_config()?;
    let configs = context.repository_configs()?;
    // It runs beside a database: one thread keeps up with any server, and more would take more memory.
    let alone = configs.iter().map(|config| RepositoryConfig { threads: 1, ..config.clone() });
    let repositories: Vec<Repository> =
        alone.map(|config| Repository::connect(&config)).collect::<Result<_, _>>()?;
    let settings = Settings {
        connection: context.connection()?,
        cluster: cluster.name.clone(),
        repositories,
        check: cluster.archive_check,
        slot: args.slot.clone(),
        create_slot: args.create_slot,
        policy: Policy {
            flush_interval: args.flush_interval,
            flush_bytes: args.flush_bytes,
            synchronous: args.synchronous,
        },
        data_directory: cluster.data_directory.clone(),
        state_file: args.state_file.as_ref().map(|path| match path.is_dir() {
            true => path.join(State::FILE_NAME),
            false => path.clone(),
        }),
        whole: Arc::default(),
    };
    let service = archive_beside(context, cluster, &settings.whole);
    let (stop, told) = Stop::new();
    let receiver = Receiver::new(settings, Notifier::of_environment(), tell);
    // On a thread that waits for the network itself: what comes is not handed from thread to thread before it is put.
    let mut receiving = tokio::spawn(receiver.run(told));
    let ended = tokio::select! {
        ended = &mut receiving => ended,
        _ = crate::signalled() => {
            service.iter().for_each(Service::stop);
            // Nobody listens only when it has ended already.
            let _ = stop.send(true);
            receiving.await
        }
    };
    if let Some(service) = service {
        service.end();
    }
    match ended {
        Ok(result) => Ok(result?),
        // Nobody aborts it, so that it can only have panicked.
        Err(lost) => std::panic::resume_unwind(lost.into_panic()),
    }
}

fn tell(line: &str) {
    eprintln!("highwater: {line}");
}

/// Has the calls of `archive_command` answered that archive the same cluster into the same repositories.
fn archive_beside(context: &Context, cluster: &ClusterConfig, whole: &Arc<WholeSegments>) -> Option<Service> {
    // Into one that was named alone, a call's file would not come to be in all of them.
    let config = context.config.as_ref().filter(|_| context.common.repository.is_none())?;
    let whole = Arc::clone(whole);
    let received = move |system_id, segment| whole.find(system_id, segment);
    Service::start(config, cluster, Arc::new(received), tell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r22_bytes_to_wait_for_are_at_least_a_page() {
        assert_eq!(parse_flush_bytes("8K"), Ok(8192));
        for text in ["0", "1", "8191", "x"] {
            assert!(parse_flush_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn r22_intervals_have_bounds() {
        for (text, millis) in [("250ms", 250), ("1s", 1000), ("10ms", 10), ("1h", 3_600_000)] {
            assert_eq!(parse_interval(text), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "0", "9ms", "ms", "-1s", "2h", "x"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }
}
