//! What the path of a file says about it.

use crate::tar::Member;

/// The archive that a member lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The data directory itself.
    Base,
    /// The tablespace with this number.
    Tablespace(u32),
}

impl Place {
    /// The path below the data directory of a member of this archive: what is in a tablespace lies behind its link in
    /// `pg_tblspc`, as the server's manifest has it too (`AddFileToBackupManifest`, backup_manifest.c, PostgreSQL 15).
    pub fn path(self, member: &Member) -> Vec<u8> {
        let name = member.name.strip_prefix(b"./").unwrap_or(&member.name);
        match self {
            Place::Base => name.to_vec(),
            Place::Tablespace(oid) => [format!("pg_tblspc/{oid}/").as_bytes(), name].concat(),
        }
    }
}

/// Whether a file is changed in place, page by page: relations with all their forks, and the status files of transactions
/// (`slru.c`). Others are written anew, or at their end.
pub fn is_paged(path: &[u8]) -> bool {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    match parts.as_slice() {
        [b"global", file] | [b"base", _, file] => is_relation(file),
        [b"pg_tblspc", _, version, _, file] if version.starts_with(b"PG_") => is_relation(file),
        [b"pg_xact" | b"pg_commit_ts", _] | [b"pg_multixact", _, _] => true,
        _ => false,
    }
}

/// `<number>[_fsm|_vm|_init][.<segment>]`, as `parse_filename_for_nontemp_relation` takes it.
fn is_relation(file: &[u8]) -> bool {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let (name, segment) = split(file, b'.');
    let (number, fork) = split(name, b'_');
    is_number(number)
        && fork.is_none_or(|fork| matches!(fork, b"fsm" | b"vm" | b"init"))
        && segment.is_none_or(is_number)
}

fn split(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == at) {
        Some(position) => (&text[..position], Some(&text[position + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Kind;

    #[test]
    fn relations_and_status_files_are_changed_by_pages() {
        for path in [
            "base/1/1255",
            "base/16384/16385.12",
            "base/16384/16385_fsm",
            "base/16384/16385_vm.1",
            "base/16384/16385_init",
            "global/1262",
            "pg_tblspc/16390/PG_15_202209061/5/16391",
            "pg_xact/0000",
            "pg_multixact/members/0000",
        ] {
            assert!(is_paged(path.as_bytes()), "{path}");
        }
        for path in [
            "base/1/PG_VERSION",
            "base/1/pg_filenode.map",
            "base/1/1255_tmp",
            "base/1/1255.",
            "base/1/_fsm",
            "base/1/t3_16384",
            "base/1255",
            "global/pg_control",
            "pg_tblspc/16390/other/5/16391",
            "pg_wal/archive_status",
            "log/1",
            "backup_label",
            "",
        ] {
            assert!(!is_paged(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_tablespace_lies_behind_its_link() {
        let member = |name: &str| Member { name: name.into(), mode: 0, modified_unix: 0, kind: Kind::Folder };
        let name = "PG_15_202209061/5/16391";
        assert_eq!(
            Place::Tablespace(16390).path(&member(name)),
            format!("pg_tblspc/16390/{name}").as_bytes()
        );
        assert_eq!(Place::Base.path(&member("base/1")), b"base/1");
        assert_eq!(Place::Base.path(&member("./base/1")), b"base/1");
    }
}
