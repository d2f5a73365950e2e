//! Which relation, fork and block a place in a file of the data directory is.

use highwater_wal::RelationFile;

/// `pg_default` and `pg_global`.
const DEFAULT_TABLESPACE: u32 = 1663;
const GLOBAL_TABLESPACE: u32 = 1664;

/// A file of a relation: PostgreSQL cuts a fork into files of 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelationPart {
    /// The relation's file.
    pub(crate) file: RelationFile,
    /// 0 main, 1 free space map, 2 visibility map, 3 init.
    pub(crate) fork: u8,
    /// Which of the fork's files it is, from 0.
    pub(crate) part: u32,
}

/// Reads a path below the data directory. Nothing for what is no file of a relation, and for those of temporary ones, which are in
/// no backup (`parse_filename_for_nontemp_relation`).
pub(crate) fn relation_part(path: &str) -> Option<RelationPart> {
    let parts: Vec<&str> = path.split('/').collect();
    let (tablespace, database, name) = match parts.as_slice() {
        ["global", name] => (GLOBAL_TABLESPACE, 0, *name),
        ["base", database, name] => (DEFAULT_TABLESPACE, oid(database)?, *name),
        ["pg_tblspc", tablespace, version, database, name] if version.starts_with("PG_") => {
            (oid(tablespace)?, oid(database)?, *name)
        }
        _ => return None,
    };
    let (name, part) = match name.split_once('.') {
        Some((name, part)) => (name, oid(part)?),
        None => (name, 0),
    };
    let (relation, fork) = match name.split_once('_') {
        None => (name, 0),
        Some((relation, "fsm")) => (relation, 1),
        Some((relation, "vm")) => (relation, 2),
        Some((relation, "init")) => (relation, 3),
        Some(_) => return None,
    };
    let file = RelationFile { tablespace, database, relation: oid(relation)? };
    Some(RelationPart { file, fork, part })
}

fn oid(text: &str) -> Option<u32> {
    if text.starts_with('0') && text.len() > 1 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_relations_have_pages() {
        let table = [
            ("base/5/16384", Some((1663, 5, 16384, 0, 0))),
            ("base/5/16384.12", Some((1663, 5, 16384, 0, 12))),
            ("base/5/16384_fsm", Some((1663, 5, 16384, 1, 0))),
            ("base/5/16384_vm.1", Some((1663, 5, 16384, 2, 1))),
            ("base/5/16384_init", Some((1663, 5, 16384, 3, 0))),
            ("global/1262", Some((1664, 0, 1262, 0, 0))),
            ("pg_tblspc/16385/PG_15_202209061/5/16386", Some((16385, 5, 16386, 0, 0))),
            ("base/5/t3_16384", None),
            ("base/5/PG_VERSION", None),
            ("base/5/pg_filenode.map", None),
            ("base/5/16384_xx", None),
            ("base/5/016384", None),
            ("base/5/16384.", None),
            ("global/pg_control", None),
            ("pg_wal/000000010000000000000001", None),
            ("pg_xact/0000", None),
        ];
        for (path, expected) in table {
            let found = relation_part(path).map(|found| {
                (found.file.tablespace, found.file.database, found.file.relation, found.fork, found.part)
            });
            assert_eq!(found, expected, "{path}");
        }
    }
}
