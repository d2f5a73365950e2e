//! What can end a command, and the exit status it ends with.

use highwater_catalog::{PlanError, TimeError, Unreachable};

use crate::exit::Exit;

/// A command that could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// The command found something wrong that its own output tells; there is nothing to add.
    #[error("")]
    Told(Exit),
    /// A time that was not understood.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The target cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The repository, or what is in it.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),
    /// The server, or the way to it.
    #[error(transparent)]
    Server(#[from] highwater_replication::Error),
    /// The backup.
    #[error(transparent)]
    Backup(#[from] highwater_basebackup::Error),
    /// The restore.
    #[error(transparent)]
    Restore(#[from] highwater_restore::Error),
    /// The verification could not be carried through.
    #[error(transparent)]
    Verify(#[from] highwater_verify::Error),
    /// Retention.
    #[error(transparent)]
    Expire(#[from] highwater_expire::Error),
    /// The receiver.
    #[error(transparent)]
    Receiver(#[from] highwater_receiver::Error),
    /// A file or the terminal.
    #[error("{what}: {source}; hint: see whether the path exists and may be used by this user")]
    Io {
        /// What was to be done.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Ended by a signal.
    #[error("interrupted by {signal}; nothing that was begun counts as complete; hint: {hint}")]
    Interrupted {
        /// Its name.
        signal: &'static str,
        /// How to go on.
        hint: &'static str,
    },
}

impl Error {
    /// Arguments that do not fit together; the message ends with a hint.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::Usage(message.into())
    }

    /// The exit status that this ends the program with.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Usage(_) | Error::Time(_) => Exit::Usage,
            Error::Told(exit) => *exit,
            Error::Unreachable(
                Unreachable::DamagedBackup(_)
                | Unreachable::FoundDamaged { .. }
                | Unreachable::EndLost { .. },
            ) => Exit::Damaged,
            Error::Unreachable(_) => Exit::Unreachable,
            Error::Repository(error) => of_repository(error),
            Error::Server(error) => of_server(error),
            Error::Backup(highwater_basebackup::Error::Repository(error)) => of_repository(error),
            Error::Restore(error) => of_restore(error),
            Error::Receiver(highwater_receiver::Error::Repository(error)) => of_repository(error),
            Error::Receiver(error) if error.is_final() => Exit::Usage,
            Error::Expire(error) => of_expire(error),
            Error::Verify(highwater_verify::Error::Repository(error)) => of_repository(error),
            Error::Verify(
                highwater_verify::Error::NoIdentity { .. } | highwater_verify::Error::Options { .. },
            ) => Exit::Usage,
            Error::Verify(_)
            | Error::Backup(_)
            | Error::Receiver(_)
            | Error::Io { .. }
            | Error::Interrupted { .. } => Exit::Failed,
        }
    }
}

fn of_repository(error: &highwater_repository::Error) -> Exit {
    if error.is_config() {
        Exit::Usage
    } else if error.is_damaged() {
        Exit::Damaged
    } else {
        Exit::Failed
    }
}

fn of_expire(error: &highwater_expire::Error) -> Exit {
    use highwater_expire::Error;
    match error {
        Error::NoRule | Error::TooShort { .. } => Exit::Usage,
        Error::Repository(error) | Error::Plan(PlanError::Repository(error)) => of_repository(error),
        _ => Exit::Failed,
    }
}

fn of_server(error: &highwater_replication::Error) -> Exit {
    use highwater_replication::Error;
    match error {
        Error::ConnectionString { .. } | Error::UnknownSetting { .. } | Error::Setting { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn of_restore(error: &highwater_restore::Error) -> Exit {
    use highwater_restore::Error;
    match error {
        Error::Repository(error) => of_repository(error),
        Error::Content { source, .. } => of_repository(source),
        Error::Manifest { .. } => Exit::Damaged,
        Error::Option { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Error {
        match error {
            PlanError::Unreachable(reason) => Error::Unreachable(reason),
            PlanError::Repository(error) => Error::Repository(error),
        }
    }
}
