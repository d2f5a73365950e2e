//! What the fuzz targets of the crate `highwater-wal` do with their input.

use highwater_wal::{
    CatalogRow, CatalogRows, Check, Kind, Lsn, PgVersion, RawRecord, Record, RecordBody, RecordHeader,
    Records, Refusal, RowChange, SegmentCheck, SegmentKind, SegmentName, SegmentSize, Summary, SystemId,
    TimelineHistory, TimelineId, Timestamp, WalFile, check_segment,
};

/// The smallest segments there are.
const SEGMENT_SIZE: u64 = 1 << 20;
const PAGE_SIZE: usize = 8192;
const START: Lsn = Lsn(7 * SEGMENT_SIZE);
const SYSTEM: SystemId = SystemId(42);

/// CRC-32C, slowly: the targets must reach what lies behind the check of it.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// WAL as a server would lay it out, of records that the input describes: two bytes of length, what it is, the body.
fn lay_out(version: PgVersion, mut input: &[u8]) -> Vec<u8> {
    let mut wal = Vec::new();
    let mut previous = START.0 - 8;
    while let Some((&[low, high, rmgr, info], rest)) = input.split_first_chunk() {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([low, high]))));
        input = rest;
        page_header(version, &mut wal, 0);
        let lsn = START.0 + wal.len() as u64;
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&(24 + body.len() as u32).to_le_bytes());
        header.extend_from_slice(&5_u32.to_le_bytes());
        header.extend_from_slice(&previous.to_le_bytes());
        header.extend_from_slice(&[info, rmgr, 0, 0]);
        let crc = crc32c(&[body, &header].concat());
        header.extend_from_slice(&crc.to_le_bytes());
        header.extend_from_slice(body);
        let mut record = &header[..];
        while !record.is_empty() {
            page_header(version, &mut wal, record.len() as u32);
            let (now, later) = record.split_at(record.len().min(PAGE_SIZE - wal.len() % PAGE_SIZE));
            wal.extend_from_slice(now);
            record = later;
        }
        wal.resize(wal.len().next_multiple_of(8), 0);
        previous = lsn;
    }
    wal
}

/// A page header, where a page begins.
fn page_header(version: PgVersion, wal: &mut Vec<u8>, remaining: u32) {
    if !wal.len().is_multiple_of(PAGE_SIZE) {
        return;
    }
    let address = START.0 + wal.len() as u64;
    let long = address.is_multiple_of(SEGMENT_SIZE);
    let flags = u16::from(remaining > 0) | if long { 2 } else { 0 };
    wal.extend_from_slice(&version.page_magic().to_le_bytes());
    wal.extend_from_slice(&flags.to_le_bytes());
    wal.extend_from_slice(&1_u32.to_le_bytes());
    wal.extend_from_slice(&address.to_le_bytes());
    wal.extend_from_slice(&u64::from(remaining).to_le_bytes());
    if long {
        wal.extend_from_slice(&SYSTEM.0.to_le_bytes());
        wal.extend_from_slice(&(SEGMENT_SIZE as u32).to_le_bytes());
        wal.extend_from_slice(&(PAGE_SIZE as u32).to_le_bytes());
    }
}

/// WAL with one byte changed, or none, and a number for further choices.
fn wal(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (&[version, low, high, change, choice], records) = input.split_first_chunk()?;
    let mut wal = lay_out(PgVersion::ALL[usize::from(version) % PgVersion::ALL.len()], records);
    let at = usize::from(u16::from_le_bytes([low, high]));
    if let Some(byte) = wal.get_mut(at) {
        *byte ^= change;
    }
    Some((wal, usize::from(choice)))
}

fn size() -> Option<SegmentSize> {
    SegmentSize::new(SEGMENT_SIZE).ok()
}

/// What is read in WAL that comes in these pieces, the first refusal included.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Record, Refusal>> {
    let mut found = Vec::new();
    let Some(size) = size() else { return found };
    let mut records = Records::new(size, None);
    let mut at = START;
    for piece in pieces {
        if records.push(TimelineId::FIRST, at, piece).is_err() {
            break;
        }
        at = at + piece.len() as u64;
        found.extend(records.by_ref());
    }
    found
}

/// WAL cut anywhere is the same WAL, and every record's end is where the next one can begin.
pub fn records(input: &[u8]) {
    let Some((wal, choice)) = wal(input) else { return };
    let whole = read(std::iter::once(&wal[..]));
    let pieces = read(wal.chunks(1 + choice * 67));
    assert_eq!(whole, pieces);
    let good: Vec<_> = whole.iter().flatten().collect();
    assert!(good.windows(2).all(|pair| pair[0].end <= pair[1].lsn && pair[1].header.previous == pair[0].lsn));
    assert!(good.iter().all(|record| record.lsn.0 + u64::from(record.header.length) <= record.end.0));
}

/// A segment is taken or refused with a place in it; a lower check takes what a higher one does, and both say the same.
pub fn pages(input: &[u8]) {
    let (Some((mut segment, choice)), Some(size)) = (wal(input), size()) else { return };
    segment.resize(SEGMENT_SIZE as usize, choice as u8);
    let name = SegmentName::containing(TimelineId::FIRST, START, size);
    let check = |level, kind| check_segment(name, size, Some(SYSTEM), &segment, level, kind);
    let full = check(Check::Full, SegmentKind::Complete);
    let partial = check(Check::Full, SegmentKind::Partial);
    let ended = check(Check::Full, SegmentKind::Ended(START + (choice as u64) * 64));
    for result in [&full, &partial, &ended] {
        match result {
            Err(refusal) => assert!(refusal.offset < SEGMENT_SIZE && !refusal.to_string().is_empty()),
            Ok(summary) => assert_eq!(Ok(summary.clone()), check(Check::Header, SegmentKind::Complete)),
        }
    }
    let mut in_pieces =
        SegmentCheck::new(name, size, Some(SYSTEM), SEGMENT_SIZE, Check::Full, SegmentKind::Complete)
            .expect("name and length are right");
    segment.chunks(PAGE_SIZE * (1 + choice % 5)).for_each(|piece| in_pieces.push(piece));
    assert_eq!(in_pieces.finish(), full);
    if let Ok(summary) = &full {
        assert!(summary.is_covered());
        assert_eq!(Ok(summary), partial.as_ref());
        let json = serde_json::to_string(summary).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Summary>(&json).ok().as_ref(), Some(summary));
    }
    if let Ok(summary) = &partial {
        let found = read(std::iter::once(&segment[..]));
        let last = found.iter().flatten().last();
        assert_eq!(summary.records, found.iter().flatten().count() as u64);
        assert_eq!(summary.last_record, last.map(|record| record.lsn));
    }
}

/// Bodies of records are taken apart without loss, and decoded or not.
pub fn record_bodies(input: &[u8]) {
    let Some((&[version, rmgr, info], body)) = input.split_first_chunk() else { return };
    let version = PgVersion::ALL[usize::from(version) % PgVersion::ALL.len()];
    let header = RecordHeader { length: 0, xid: 3, previous: Lsn(0), info: info & 0xF0, rmgr, crc: 0 };
    let kind = Kind::decode(version, &header, body);
    if let Some(Kind::Commit(finished) | Kind::Abort(finished)) = &kind {
        assert!(finished.dropped.len() <= body.len());
    }
    let Some(parts) = RecordBody::parse(version, body) else { return };
    let images: usize = parts.blocks().filter_map(|block| block.image).map(|image| image.stored.len()).sum();
    assert_eq!(images, parts.image_length());
    let data: usize = parts.blocks().map(|block| block.data.len()).sum();
    assert!(images + data + parts.main().len() <= body.len());
    let mut page = Vec::new();
    for image in parts.blocks().filter_map(|block| block.image) {
        if image.unpack(&mut page).is_ok() {
            assert!(page.len().is_power_of_two() && (1 << 10..=32 << 10).contains(&page.len()));
        }
    }
    let record = RawRecord { lsn: START, end: START + 64, header, version, body };
    let mut changes = 0;
    let told = record.changes(|_| changes += 1);
    assert!(changes <= u32::from(told.is_some()));
}

/// Records of catalogs, one behind the other: what is told of rows is of the record that was fed, and what was told once is
/// told again.
pub fn catalogs(input: &[u8]) {
    let told = |skip: usize| {
        let mut rows = Vec::new();
        let mut catalogs = CatalogRows::default();
        let Some((version, mut input)) = input.split_first() else { return rows };
        let version = PgVersion::ALL[usize::from(*version) % PgVersion::ALL.len()];
        let mut lsn = START;
        while let Some((&[low, high, rmgr, info], rest)) = input.split_first_chunk() {
            let (body, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([low, high]))));
            input = rest;
            let length = 24 + body.len() as u32;
            let header = RecordHeader { length, xid: 3, previous: lsn, info: info & 0xF0, rmgr, crc: 0 };
            lsn = lsn + 64;
            let record = RawRecord { lsn, end: lsn + 64, header, version, body };
            if lsn.0 > START.0 + 64 * skip as u64 {
                catalogs.feed(&record, |row| {
                    assert_eq!(row.origin().lsn, lsn);
                    rows.push(row);
                });
            }
        }
        rows
    };
    let whole = told(0);
    // What is known without the first record is the same, or not told, or was told before.
    for row in told(1) {
        let is_new = matches!(&row, CatalogRow::Untold(_)) || row.origin().change == RowChange::Seen;
        assert!(is_new || whole.contains(&row), "{row:?} in {whole:?}");
    }
}

/// A history that is read is written and read the same, and covers every LSN once. Names and times likewise.
pub fn history(input: &[u8]) {
    let Some((number, content)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(content);
    if let Ok(file) = text.parse::<WalFile>() {
        assert_eq!(file.to_string(), text);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
    }
    let Some(timeline) = TimelineId::new(u32::from(*number) << 3 | 7) else { return };
    let Ok(history) = TimelineHistory::parse(timeline, content) else { return };
    assert_eq!(TimelineHistory::parse(timeline, history.to_string()).as_ref(), Ok(&history));
    let path = history.path();
    assert_eq!(path.first().map(|stretch| stretch.begin), Some(Lsn(0)));
    assert!(path.windows(2).all(|pair| pair[0].end == Some(pair[1].begin) && pair[0].begin < pair[1].begin));
    for stretch in &path {
        assert_eq!(history.timeline_at(stretch.begin), stretch.timeline);
    }
}
