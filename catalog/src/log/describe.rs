//! What a transaction did to which table, by name.

use std::collections::BTreeMap;

use highwater_wal::RelationFile;

use super::assembler::End;
use super::deeds::{ClassChange, RowFate, Rows};
use super::line::{Database, Fate, LogLine, Named, Namer, Table, TableLine};

/// Says what a transaction did. `all_relations` shows catalogs, toast tables and indexes, too.
pub fn describe(end: &End, names: &dyn Namer, all_relations: bool) -> LogLine {
    let mut tables = Tables::new(end, names);
    tables.count_rows();
    // Of what was rolled back only the rows are left, as what was tried.
    if end.committed {
        tables.tell_created();
        tables.tell_dropped();
        tables.tell_truncated();
    }
    let mut rows_elsewhere: u64 = 0;
    let mut shown = Vec::new();
    for line in tables.lines {
        if all_relations || line.table.is_of_users() {
            shown.push(line);
        } else {
            rows_elsewhere = rows_elsewhere.saturating_add(line.rows.total());
        }
    }
    let databases = |oids: &[u32]| {
        let named = oids.iter().map(|oid| Database { oid: *oid, name: names.database(*oid, end.lsn) });
        named.collect()
    };
    let in_files = || end.deeds.rows().iter().map(|rows| rows.file.database).find(|oid| *oid != 0);
    let database = end.database.filter(|oid| *oid != 0).or_else(in_files);
    LogLine {
        time: end.time,
        lsn: end.lsn,
        end: end.end,
        first: end.deeds.first,
        timeline: end.timeline,
        xid: end.xid,
        committed: end.committed,
        prepared: end.prepared,
        subtransactions: end.subtransactions.len(),
        is_whole: end.is_whole,
        restore_point: end.restore_point.clone(),
        database: database.and_then(|oid| names.database(oid, end.lsn)),
        tables: shown,
        rows_elsewhere,
        rows_left_out: end.deeds.left_out,
        databases_created: databases(&end.deeds.databases_created),
        databases_dropped: databases(&end.deeds.databases_dropped),
        tablespaces_dropped: end.deeds.tablespaces_dropped.clone(),
    }
}

/// The lines of one transaction while they are put together.
struct Tables<'a> {
    end: &'a End,
    names: &'a dyn Namer,
    lines: Vec<TableLine>,
    /// Where the line of a relation is: by its OID where that is known, else by its file.
    places: BTreeMap<(u32, Place), usize>,
    /// What the transaction itself has left in `pg_class`, the last for each file.
    own: BTreeMap<RelationFile, &'a ClassChange>,
    /// Files that a rewrite made, with the OID of the rewritten relation.
    copies: BTreeMap<RelationFile, u32>,
    /// Files that rewritten relations had until their rows were copied, with the OID of the relation. The copy has them in the end.
    copied: BTreeMap<RelationFile, u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Oid(u32),
    File(RelationFile),
}

impl<'a> Tables<'a> {
    fn new(end: &'a End, names: &'a dyn Namer) -> Tables<'a> {
        let (mut own, mut copies, mut copied) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut made = BTreeMap::new();
        for class in &end.deeds.classes {
            let Some(file) = class.file else { continue };
            match (class.rewrites, class.fate) {
                (0, RowFate::Inserted | RowFate::Updated) => _ = own.insert(file, class),
                (0, RowFate::Deleted) => {}
                (rewritten, RowFate::Inserted) => {
                    copies.insert(file, rewritten);
                    made.insert(class.oid, file);
                }
                // When it is filled, the copy and the rewritten relation change files.
                (rewritten, RowFate::Updated | RowFate::Deleted) => {
                    let had = made.get(&class.oid);
                    if had.map_or(class.fate == RowFate::Deleted, |had| *had != file) {
                        copied.insert(file, rewritten);
                    }
                }
            }
        }
        Tables { end, names, lines: Vec::new(), places: BTreeMap::new(), own, copies, copied }
    }

    fn classes(&self) -> impl DoubleEndedIterator<Item = &'a ClassChange> + use<'a> {
        self.end.deeds.classes.iter()
    }

    /// What the transaction did to the row of one relation.
    fn classes_of(&self, table: &Table) -> impl DoubleEndedIterator<Item = &'a ClassChange> + use<'a> {
        let (database, oid) = (table.database_oid, table.oid);
        self.classes().filter(move |class| Some(class.oid) == oid && class.database == database)
    }

    fn line(&mut self, table: Table) -> &mut TableLine {
        let place = table.oid.map_or(Place::File(table.file()), Place::Oid);
        let lines = &mut self.lines;
        let at = *self.places.entry((table.database_oid, place)).or_insert_with(|| {
            lines.push(TableLine { table, fate: None, rows: Rows::default(), copied: 0 });
            lines.len() - 1
        });
        &mut self.lines[at]
    }

    /// The relation that a file belongs to, with what the transaction has left of it.
    fn named(&self, file: RelationFile) -> Table {
        if let Some(class) = self.own.get(&file) {
            return self.of_class(class);
        }
        let copied = self.copies.get(&file).and_then(|oid| self.by_oid(file.database, *oid));
        copied.unwrap_or_else(|| self.named_elsewhere(file))
    }

    /// The relation that a file belonged to before the transaction.
    fn named_elsewhere(&self, file: RelationFile) -> Table {
        match self.names.file(file, self.end.lsn) {
            Named::Table(table) => table,
            Named::Unknown(reason) => Table {
                database: self.names.database(file.database, self.end.lsn),
                schema: None,
                name: None,
                oid: None,
                kind: None,
                tablespace: file.tablespace,
                database_oid: file.database,
                file: file.relation,
                unknown: Some(reason),
            },
        }
    }

    fn by_oid(&self, database: u32, oid: u32) -> Option<Table> {
        let own = self.classes().rfind(|class| class.oid == oid && class.database == database);
        own.map(|class| self.of_class(class)).or_else(|| self.names.relation(database, oid, self.end.lsn))
    }

    fn of_class(&self, class: &ClassChange) -> Table {
        let file =
            class.file.unwrap_or(RelationFile { tablespace: 0, database: class.database, relation: 0 });
        Table {
            database: self.names.database(class.database, self.end.lsn),
            schema: self.names.schema(class.database, class.namespace, self.end.lsn),
            name: Some(class.name.clone()),
            oid: Some(class.oid),
            kind: Some(class.kind),
            tablespace: file.tablespace,
            database_oid: class.database,
            file: file.relation,
            unknown: None,
        }
    }

    fn count_rows(&mut self) {
        for counted in self.end.deeds.rows() {
            let mut rows = counted.rows;
            let is_copy = self.copies.contains_key(&counted.file);
            let copied = if is_copy { std::mem::take(&mut rows.inserted) } else { 0 };
            let table = self.named(counted.file);
            let line = self.line(table);
            line.rows.add(rows);
            line.copied = line.copied.saturating_add(copied);
        }
    }

    fn tell_created(&mut self) {
        let is_new = |class: &&ClassChange| class.fate == RowFate::Inserted && class.rewrites == 0;
        for class in self.classes().filter(is_new) {
            // It can have got another file, and another name, before the transaction ended.
            let table = self.of_class(class);
            let last = self.classes_of(&table).next_back().unwrap_or(class);
            let fate = if last.fate == RowFate::Deleted { Fate::CreatedAndDropped } else { Fate::Created };
            let table = self.of_class(last);
            self.line(table).fate = Some(fate);
        }
    }

    fn tell_dropped(&mut self) {
        let is_gone = |class: &&ClassChange| class.fate == RowFate::Deleted && class.rewrites == 0;
        for class in self.classes().filter(is_gone) {
            let table = self.of_class(class);
            self.line(table).fate.get_or_insert(Fate::Dropped);
        }
        for file in &self.end.dropped {
            let gone =
                self.classes().rfind(|class| class.file == Some(*file) && class.fate == RowFate::Deleted);
            let (table, fate) = match gone {
                Some(class) if class.rewrites == 0 => continue,
                Some(class) => {
                    let table = self.by_oid(class.database, class.rewrites);
                    let fate = self.fate_by_files(class.database, class.rewrites, *file);
                    (table.unwrap_or_else(|| self.named_elsewhere(*file)), fate.unwrap_or(Fate::Rewritten))
                }
                // Made and given away again in this transaction: the first file of what is told already.
                None if self.own.contains_key(file) || self.copies.contains_key(file) => continue,
                None => {
                    let updated = self.classes().find(|class| class.rewrites == 0 && class.took(*file));
                    let table =
                        updated.map_or_else(|| self.named_elsewhere(*file), |class| self.of_class(class));
                    let fate = self.fate_of(&table, *file);
                    (self.latest(table), fate)
                }
            };
            self.line(table).came_to(fate);
        }
    }

    /// A relation with the name that the transaction has left it.
    fn latest(&self, table: Table) -> Table {
        let last = self.classes_of(&table).next_back();
        last.map_or(table, |class| self.of_class(class))
    }

    /// What became of a relation whose file is gone, where no deleted row of `pg_class` tells.
    fn fate_of(&self, table: &Table, file: RelationFile) -> Fate {
        let by_files = table.oid.and_then(|oid| self.fate_by_files(table.database_oid, oid, file));
        if let Some(fate) = by_files {
            return fate;
        }
        if !self.end.is_whole {
            return Fate::Gone;
        }
        // How many rows of pg_class were deleted and updated is known also where they themselves could not be read.
        let mut changed = Rows::default();
        for counted in self.end.deeds.rows() {
            if self.named(counted.file).is_class() {
                changed.add(counted.rows);
            }
        }
        match changed {
            Rows { updated: 0, deleted: 0, .. } => Fate::Gone,
            Rows { deleted: 0, .. } => Fate::Truncated,
            Rows { updated: 0, .. } => Fate::Dropped,
            _ => Fate::Gone,
        }
    }

    /// What became of a relation by the files that it had one after the other, of which one is gone. A file that a rewrite has filled has
    /// the rows of the one before, and so has one in another tablespace, into which `SET TABLESPACE` carries them over; any other
    /// new file is empty, and so is one that was cut to nothing in place.
    fn fate_by_files(&self, database: u32, oid: u32, gone: RelationFile) -> Option<Fate> {
        let is_own = |class: &&ClassChange| class.oid == oid && class.database == database;
        let rows = || self.classes().filter(is_own).filter(|class| class.fate != RowFate::Deleted);
        let mut files: Vec<RelationFile> =
            rows().flat_map(|class| [class.was, class.file]).flatten().collect();
        if !files.contains(&gone) {
            files.insert(0, gone);
        }
        files.dedup();
        let of_it = |files: &BTreeMap<RelationFile, u32>, file| files.get(&file) == Some(&oid);
        let has_copies = self.copies.values().any(|rewritten| *rewritten == oid);
        let keeps_rows = |had: RelationFile, next: RelationFile| {
            let is_copied = of_it(&self.copies, next) || !has_copies && of_it(&self.copied, had);
            is_copied || next.tablespace != had.tablespace
        };
        if files.windows(2).any(|pair| !keeps_rows(pair[0], pair[1]))
            || files.iter().any(|file| self.is_emptied(*file))
        {
            return Some(Fate::Truncated);
        }
        let is_rewritten = has_copies || self.copied.values().any(|rewritten| *rewritten == oid);
        let is_followed = || of_it(&self.copied, gone) || rows().any(|class| class.took(gone));
        match is_rewritten {
            // What was copied may be what was left by then.
            true if !is_followed() => Some(Fate::Gone),
            true => Some(Fate::Rewritten),
            false => (files.len() > 1).then_some(Fate::Rewritten),
        }
    }

    /// Whether `TRUNCATE` has cut a file in place: it does so only where its own transaction has made it (`ExecuteTruncateGuts`,
    /// tablecmds.c); any other one VACUUM has cut, which found no row in it.
    fn is_emptied(&self, file: RelationFile) -> bool {
        let deeds = &self.end.deeds;
        deeds.emptied.contains(&file) && deeds.created.contains(&file)
    }

    fn tell_truncated(&mut self) {
        for (database, oid) in &self.end.deeds.truncated {
            if let Some(table) = self.by_oid(*database, *oid) {
                self.line(table).came_to(Fate::Truncated);
            }
        }
        for file in &self.end.deeds.emptied {
            if self.is_emptied(*file) {
                let table = self.named(*file);
                self.line(table).came_to(Fate::Truncated);
            }
        }
    }
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
