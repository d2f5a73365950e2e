//! Follows the two catalogs through the WAL.

use super::act::{Act, Logged};
use super::places::Places;
use super::rows::KeptRows;
use super::{
    Catalog, CatalogPlace, CatalogRow, ClassRow, MappedFile, RowChange, RowOrigin, Untold, UntoldRow, layout,
    page,
};
use crate::body::{BlockRef, RecordBody, RelationFile, first_relation};
use crate::change::HEAP_BLOCK;
use crate::kind::xlog;
use crate::record::rmgr;
use crate::records::RawRecord;
use crate::{Lsn, PgVersion};

/// Tells the rows that are written into `pg_class` and `pg_namespace`, of all databases, off records fed in the order of the
/// WAL.
///
/// Records left out, other than at the beginning, are noticed: what was known of the pages is then forgotten, so that
/// nothing wrong is told.
///
/// Memory: 32 MiB of rows at most, and a page.
///
/// ```
/// use highwater_wal::{CatalogRow, CatalogRows, Records, Refusal};
/// fn tables(records: &mut Records<Vec<u8>>) -> Result<Vec<(u32, String)>, Refusal> {
///     let (mut catalogs, mut tables) = (CatalogRows::default(), Vec::new());
///     while let Some(record) = records.next_raw() {
///         catalogs.feed(&record?, |row| {
///             if let CatalogRow::Class(row) = row
///                 && row.kind == 'r'
///             {
///                 tables.push((row.oid, row.name));
///             }
///         });
///     }
///     Ok(tables)
/// }
/// ```
#[derive(Debug, Default)]
pub struct CatalogRows {
    places: Places,
    rows: KeptRows,
    /// The record that was fed last.
    last: Option<Lsn>,
    /// The page that is being unpacked.
    page: Vec<u8>,
}

impl CatalogRows {
    /// Tells where a catalog lies at the record that is fed next, if that is known from elsewhere: the file that
    /// `pg_relation_filepath` names. Unless told otherwise it is the one that initdb and `CREATE DATABASE` make.
    pub fn locate(&mut self, catalog: Catalog, file: RelationFile) {
        self.places.settle(catalog, file.database, file.relation);
    }

    /// Tells of a file that a catalog lies in at some place in the WAL, whichever: a file's number is given once.
    pub fn know(&mut self, place: &CatalogPlace) {
        self.places.add(place.catalog, place.database, place.file);
    }

    /// The files that catalogs were found to lie in, or were told to, beside those that initdb makes.
    pub fn places(&self) -> impl Iterator<Item = CatalogPlace> + '_ {
        self.places.moved()
    }

    /// The files that relation maps told of, beside those that initdb makes.
    pub fn mapped(&self) -> impl Iterator<Item = MappedFile> + '_ {
        self.places.mapped.iter().copied()
    }

    /// With another bound on what is kept of rows, in bytes.
    #[cfg(test)]
    pub(super) fn within(limit: usize) -> CatalogRows {
        CatalogRows { rows: KeptRows::within(limit), ..CatalogRows::default() }
    }

    /// Takes the next record and tells the rows in it.
    #[inline]
    pub fn feed(&mut self, record: &RawRecord<'_>, each: impl FnMut(CatalogRow)) {
        if self.last.is_some_and(|last| last != record.header.previous) {
            self.rows.clear();
        }
        self.last = Some(record.lsn);
        match record.header.rmgr {
            rmgr::HEAP | rmgr::HEAP2 => self.feed_heap(record, each),
            rmgr::XLOG if matches!(record.header.info, xlog::FPI | xlog::FPI_FOR_HINT) => {
                self.feed_heap(record, each);
            }
            // One that isn't laid out as it should be moves nothing; whoever asks for its changes learns it.
            rmgr::RELATION_MAP | rmgr::DATABASE => {
                let _ = record.changes(|change| self.places.note(&change));
            }
            _ => {}
        }
    }

    #[inline]
    fn feed_heap(&mut self, record: &RawRecord<'_>, mut each: impl FnMut(CatalogRow)) {
        let Some(file) = first_relation(record.version, record.body) else { return };
        let Some(catalog) = self.places.catalog_in(file) else { return };
        let Some(parts) = record.parts() else { return };
        let origin = RowOrigin {
            lsn: record.lsn,
            xid: record.header.xid,
            database: file.database,
            change: RowChange::Seen,
        };
        let (places, version) = (&mut self.places, record.version);
        let mut each = |row: CatalogRow| {
            places.note_row(&row);
            each(row);
        };
        let mut tell = Teller { catalog, file, version, origin, each: &mut each };
        Pages { rows: &mut self.rows, page: &mut self.page }.take(record, &parts, &mut tell);
    }
}

/// Where rows of one record go.
struct Teller<'a> {
    catalog: Catalog,
    file: RelationFile,
    version: PgVersion,
    /// Where they come from, but for what happened to them.
    origin: RowOrigin,
    each: &'a mut dyn FnMut(CatalogRow),
}

impl Teller<'_> {
    /// `old` are the columns that an updated row had before, where they are known.
    fn row(&mut self, change: RowChange, columns: &[u8], old: Option<&[u8]>) {
        let origin = RowOrigin { change, ..self.origin };
        let class = |columns| layout::class(self.version, origin, self.file, columns);
        let row = match self.catalog {
            Catalog::Class => class(columns).map(|row| {
                // A row that is another relation's was not updated to this one.
                let was = old.and_then(class).filter(|was| was.oid == row.oid).and_then(|was| was.file);
                CatalogRow::Class(ClassRow { was, ..row })
            }),
            Catalog::Namespace => layout::namespace(origin, columns),
        };
        match row {
            Some(row) => (self.each)(row),
            None => self.untold(change, Untold::Layout),
        }
    }

    /// A row that lies on a page that was seen.
    fn seen(&mut self, row: &page::PageRow<'_>) {
        let xid = std::mem::replace(&mut self.origin.xid, row.inserted_by);
        self.row(RowChange::Seen, row.columns, None);
        self.origin.xid = xid;
    }

    fn untold(&mut self, change: RowChange, reason: Untold) {
        let origin = RowOrigin { change, ..self.origin };
        (self.each)(CatalogRow::Untold(UntoldRow { origin, catalog: self.catalog, reason }));
    }
}

/// The pages of the catalogs.
struct Pages<'a> {
    rows: &'a mut KeptRows,
    page: &'a mut Vec<u8>,
}

impl Pages<'_> {
    /// Takes over what a record says.
    fn take(&mut self, record: &RawRecord<'_>, parts: &RecordBody<'_>, tell: &mut Teller<'_>) {
        let Some(act) = Act::of(&record.header, parts) else {
            return tell.untold(RowChange::Seen, Untold::Layout);
        };
        let mut damage = None;
        let mut is_told = false;
        // The page with the old row comes first.
        let is_heap = |block: &BlockRef<'_>| block.id == HEAP_BLOCK;
        let others = parts.blocks().filter(|block| !is_heap(block));
        for block in others.chain(parts.blocks().filter(is_heap)).filter(|block| block.fork == 0) {
            let Some(image) = block.image else { continue };
            let is_first = is_heap(&block);
            match image.unpack(self.page) {
                Ok(()) => {
                    self.take_page(block.block, is_first.then_some(&act), tell);
                    is_told |= is_first;
                }
                Err(error) if is_first => damage = Some(Untold::Image(error)),
                Err(_) => {}
            }
        }
        // An image has all that the record does to its page.
        if !is_told {
            self.take_act(&act, damage, tell);
        }
    }

    /// Takes over a page: `act` is what the record does to it.
    fn take_page(&mut self, block: u32, act: Option<&Act<'_>>, tell: &mut Teller<'_>) {
        let old = match act {
            Some(Act::Update { old, .. }) => self.old(tell.file, *old, block),
            _ => None,
        };
        for (number, row) in page::rows(self.page) {
            let is_news = self.rows.put(tell.file, block, number, row.columns);
            match act.and_then(|act| act.change_of(number)) {
                Some(change) => tell.row(change, row.columns, old.as_deref()),
                None if is_news && row.is_live => tell.seen(&row),
                None => {}
            }
        }
    }

    /// The columns of a row that is updated on to a page, which is unpacked: that has the old row, too, or it is known from before.
    fn old(&mut self, file: RelationFile, (block, number): (u32, u16), updated: u32) -> Option<Vec<u8>> {
        let mut here = page::rows(self.page).filter(|_| block == updated);
        let here = here.find(|(other, _)| *other == number).map(|(_, row)| row.columns);
        here.or_else(|| self.rows.get(file, block, number)).map(<[u8]>::to_vec)
    }

    /// Does what a record says that has no image; `damage` is why the image that it has is of no use.
    fn take_act(&mut self, act: &Act<'_>, damage: Option<Untold>, tell: &mut Teller<'_>) {
        let forgotten = if self.rows.has_forgotten { Untold::Forgotten } else { Untold::NotSeen };
        let unseen = damage.unwrap_or(forgotten);
        match act {
            Act::Nothing => {}
            Act::Insert { block, rows } => {
                for (number, columns) in rows {
                    match columns {
                        Some(columns) => {
                            self.rows.put(tell.file, *block, *number, columns);
                            tell.row(RowChange::Inserted, columns, None);
                        }
                        None => {
                            self.rows.remove(tell.file, *block, *number);
                            tell.untold(RowChange::Inserted, damage.unwrap_or(Untold::Layout));
                        }
                    }
                }
            }
            Act::Update { old, new: (block, number), logged } => {
                let old = self.rows.get(tell.file, old.0, old.1).map(<[u8]>::to_vec);
                match logged.as_ref().and_then(|logged| complete(old.as_deref(), logged)) {
                    Some(columns) => {
                        self.rows.put(tell.file, *block, *number, &columns);
                        tell.row(RowChange::Updated, &columns, old.as_deref());
                    }
                    None => {
                        self.rows.remove(tell.file, *block, *number);
                        tell.untold(RowChange::Updated, unseen);
                    }
                }
            }
            Act::Delete { block, number } => match self.rows.get(tell.file, *block, *number) {
                Some(columns) => tell.row(RowChange::Deleted, columns, None),
                None => tell.untold(RowChange::Deleted, unseen),
            },
            Act::InPlace { block, number, columns } => {
                self.rows.put(tell.file, *block, *number, columns);
            }
        }
    }
}

/// The columns of an updated row, with what it shares with the old one.
fn complete(old: Option<&[u8]>, logged: &Logged<'_>) -> Option<Vec<u8>> {
    if logged.prefix == 0 && logged.suffix == 0 {
        return Some(logged.columns.to_vec());
    }
    let old = old?;
    let prefix = old.get(..logged.prefix)?;
    let suffix = old.get(old.len().checked_sub(logged.suffix)?..)?;
    Some([prefix, logged.columns, suffix].concat())
}
