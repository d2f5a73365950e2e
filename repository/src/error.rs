//! What can go wrong between the bytes and the store.

use highwater_storage::ErrorKind;

use crate::digest::Plain;
use crate::names::ClusterName;
use crate::wal_object::Archived;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that this crate refuses or cannot do. Each message names the object and ends in what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] highwater_storage::Error),

    /// An object is not what was put there.
    #[error("{key} is damaged: {reason}; hint: {}", damaged_hint(.key))]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },

    /// An object that a manifest names is not there.
    #[error(
        "{key} is missing, and a backup relies on it; hint: bring the object back from another copy of the repository, or \
         restore from a backup that does not need it (highwater list, then --backup LABEL); highwater backup --full makes \
         one that relies on no other"
    )]
    Missing {
        /// The object.
        key: String,
    },

    /// An object of that name is there and holds something else (R3). Nothing was changed.
    #[error("{0}")]
    Different(Box<Different>),

    /// An object is encrypted and none of the identities at hand opens it.
    #[error("{key} is encrypted and no identity at hand opens it; hint: {hint}")]
    Locked {
        /// The object.
        key: String,
        /// What would open it.
        hint: &'static str,
    },

    /// A setting is wrong or missing.
    #[error("{place}: {message}; hint: {hint}")]
    Config {
        /// The file and line, or the variable of the environment.
        place: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },

    /// A text is not the name of what it should name.
    #[error("\"{text}\" is not {what}; hint: {hint}")]
    Name {
        /// What it should be, with its article.
        what: &'static str,
        /// The text.
        text: String,
        /// What would be one.
        hint: &'static str,
    },

    /// The repository has another format than this program knows.
    #[error(
        "{url} has format {found} and this program knows formats up to {known}; hint: use a newer version of Highwater on this machine"
    )]
    NewerFormat {
        /// The repository.
        url: String,
        /// Its format.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },

    /// There is no repository at that place.
    #[error(
        "{url} holds no repository: there is no highwater.json; hint: correct the URL; where there was a repository, bring the object back \
         from another copy of it; a new repository is made with highwater init"
    )]
    NoRepository {
        /// The place.
        url: String,
    },

    /// A cluster's system identifier is not known in the repository.
    #[error(
        "cluster {cluster} with system identifier {system_id} is not known in {url}; hint: a new cluster is added by highwater init, one that was upgraded, or a clone that is to live on, by highwater adopt"
    )]
    UnknownCluster {
        /// Its name.
        cluster: String,
        /// Its system identifier.
        system_id: highwater_wal::SystemId,
        /// The repository.
        url: String,
    },

    /// What says what a cluster is has gone, and the cluster's objects have not.
    #[error(
        "{key} is missing, and other objects of this cluster are there; hint: bring it back from another copy of the repository, or \
         have highwater init make it anew where the server still runs; docs/FORMAT.md says what is in it"
    )]
    NoClusterFacts {
        /// The object.
        key: String,
    },

    /// No cluster of that name.
    #[error("there is no cluster {cluster} in {url}; hint: {}", known_clusters(.known))]
    NoSuchCluster {
        /// What was asked for.
        cluster: ClusterName,
        /// Those that there are.
        known: Vec<ClusterName>,
        /// The repository.
        url: String,
    },

    /// What is known of a cluster does not fit what was found.
    #[error("{key}: {reason}; hint: compare the cluster's name in the configuration with highwater list")]
    Mismatch {
        /// The object that says otherwise.
        key: String,
        /// Both values.
        reason: String,
    },

    /// A label is taken by another backup.
    #[error("there is {} {label} already; hint: {}", if *.is_complete { "a backup" } else { "an unfinished backup" }, label_hint(.is_complete))]
    LabelTaken {
        /// The label.
        label: String,
        /// Whether that backup is complete; else it was interrupted, or is being made.
        is_complete: bool,
    },

    /// The store does not keep what R2 needs, and the settings do not allow it.
    #[error("{url} is not safe: {reason}; hint: {hint}")]
    UnsafeStore {
        /// The repository.
        url: String,
        /// What it did.
        reason: String,
        /// What to do.
        hint: &'static str,
    },

    /// A file on this machine cannot be read or written.
    #[error("{path}: {message}; hint: {hint}")]
    File {
        /// The file.
        path: String,
        /// What failed.
        message: String,
        /// What to do.
        hint: &'static str,
    },

    /// What was handed in cannot be stored.
    #[error("{what}: {reason}; hint: {hint}")]
    Refused {
        /// What it was.
        what: String,
        /// Why not.
        reason: String,
        /// What to do.
        hint: &'static str,
    },

    /// Compressing or encrypting failed.
    #[error("cannot make the object: {0}; hint: see that the machine has memory left")]
    Codec(#[source] std::io::Error),

    /// Writing plain bytes where the caller wanted them failed.
    #[error(
        "cannot write what was read: {0}; hint: see that there is space and that the folder can be written"
    )]
    Sink(#[source] std::io::Error),
}

fn damaged_hint(key: &str) -> &'static str {
    if key.contains("/wal/") {
        "move the object away for examination and put it back from another copy of the repository; where a server still has the file in \
         pg_wal, it is archived anew once the damaged one is away"
    } else if key.contains("/names/") {
        "move the object away: without it tables are shown by other names objects, or by their numbers; highwater names takes new ones"
    } else if key == "highwater.json" {
        "keep the object for examination and bring it back from another copy of the repository: without it nothing else is read; nothing \
         else need be lost"
    } else if key.ends_with("/cluster.json") {
        "bring the object back from another copy of the repository; or move it away, and highwater init on the server's host writes it \
         anew, which touches nothing else"
    } else if key.starts_with("events/") {
        "move the object away: it is a note of what was done, and nothing is restored from it"
    } else {
        "keep the object for examination and restore it from another copy of the repository, or take a new backup with highwater \
         backup --full"
    }
}

/// Two contents under one name (R3).
#[derive(Debug, thiserror::Error)]
#[error(
    "{key} is there already with other content: the repository has {there}{who}, and here are {here}; nothing was changed; hint: {hint}",
    who = describe(archived)
)]
pub struct Different {
    /// The object.
    pub key: String,
    /// What was to be put.
    pub here: Plain,
    /// What the repository has.
    pub there: Plain,
    /// Who put it there and when, where that can be read.
    pub archived: Option<Archived>,
    /// What to do.
    pub hint: &'static str,
}

fn label_hint(is_complete: &bool) -> &'static str {
    match is_complete {
        true => "choose another label",
        false => {
            "it was interrupted or is being made, and its label stays taken: choose another, or leave --label away"
        }
    }
}

fn known_clusters(known: &[ClusterName]) -> String {
    match known {
        [] => "it has none yet: add one with highwater init".to_owned(),
        known => {
            let names: Vec<&str> = known.iter().map(ClusterName::as_str).collect();
            format!("it has {}", names.join(", "))
        }
    }
}

fn describe(archived: &Option<Archived>) -> String {
    archived.as_ref().map_or_else(String::new, |by| format!(" (put by {} at {})", by.host, by.time))
}

impl Error {
    /// Whether the store has answered that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Store(error) if error.kind == ErrorKind::NotFound)
    }

    /// Whether the same call may well succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Store(error) if error.is_passing())
    }

    /// Whether something in the repository is damaged, or missing although a manifest names it.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::Missing { .. } | Error::NoClusterFacts { .. })
    }

    /// Whether it is the configuration that is wrong.
    pub fn is_config(&self) -> bool {
        matches!(self, Error::Config { .. })
    }

    /// For an object that a manifest names: that the store has none of that name means that it is missing.
    pub(crate) fn of_named(self, key: impl ToString) -> Error {
        if self.is_not_found() { Error::Missing { key: key.to_string() } } else { self }
    }

    /// An object that is not what it should be, and why.
    pub fn damaged(key: impl ToString, reason: impl Into<String>) -> Error {
        Error::Damaged { key: key.to_string(), reason: reason.into() }
    }
}
