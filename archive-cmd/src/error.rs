//! Why the program ends as it does.

use crate::exit::Exit;

/// Everything that keeps a file from being archived, but for what each repository answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0}; hint: highwater-archive-cmd --help shows how it is called")]
    Usage(String),
    /// The file, the configuration, or a repository.
    #[error(transparent)]
    Archive(#[from] highwater_archive::Error),
}

impl Error {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Usage(_) => Exit::Usage,
            Error::Archive(error) => error.into(),
        }
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Error {
        Error::Usage(error.to_string())
    }
}

impl From<highwater_repository::Error> for Error {
    fn from(error: highwater_repository::Error) -> Error {
        Error::Archive(error.into())
    }
}
