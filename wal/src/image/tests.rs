//! Images of pages, packed as a server does it, and bytes that no server writes.

use super::*;
use crate::body::RecordBody;
use crate::testing::fields;
use proptest::prelude::*;

/// A page of this size whose hole is `hole`.
fn page(size: usize, hole: std::ops::Range<usize>) -> Vec<u8> {
    let mut page: Vec<u8> = (0..size).map(|at| (at / 7 % 23) as u8 + 1).collect();
    page[hole].fill(0);
    page[SIZE_OFFSET..SIZE_OFFSET + 2].copy_from_slice(&(size as u16 | 4).to_le_bytes());
    page
}

/// A record's body with an image of block 3.
fn body(info: u8, hole: (u16, Option<u16>), stored: &[u8]) -> Vec<u8> {
    let hole_length = hole.1.map(|length| length.to_le_bytes().to_vec()).unwrap_or_default();
    fields(&[
        &[0, 0x10, 0, 0],
        &(stored.len() as u16).to_le_bytes(),
        &hole.0.to_le_bytes(),
        &[info],
        &hole_length,
        &[1; 12],
        &3_u32.to_le_bytes(),
        stored,
    ])
}

fn unpack(version: PgVersion, body: &[u8]) -> Result<(Vec<u8>, bool), ImageError> {
    let block = RecordBody::parse(version, body).unwrap().blocks().next().unwrap();
    let (image, mut page) = (block.image.unwrap(), vec![9; 3]);
    image.unpack(&mut page).map(|()| (page, image.is_applied))
}

#[test]
fn images_are_unpacked_however_they_are_packed() {
    for size in [1 << 10, 8 << 10, 32 << 10] {
        let hole = 100..size - 50;
        let whole = page(size, hole.clone());
        let without = fields(&[&whole[..hole.start], &whole[hole.end..]]);
        let (at, length) = (hole.start as u16, Some(hole.len() as u16));
        let lz4 = |plain: &[u8]| lz4::block::compress(plain, None, false).unwrap();
        let zstd = zstd::bulk::compress(&without, 1).unwrap();
        for (version, info, hole, stored) in [
            (PgVersion::V14, 0x04, (0, None), &whole),
            (PgVersion::V14, 0x05, (at, None), &without),
            (PgVersion::V15, 0x02, (0, None), &whole),
            (PgVersion::V18, 0x03, (at, None), &without),
            (PgVersion::V15, 0x0B, (at, length), &lz4(&without)),
            (PgVersion::V18, 0x13, (at, length), &zstd),
            (PgVersion::V15, 0x0A, (0, None), &lz4(&whole)),
        ] {
            let found = unpack(version, &body(info, hole, stored));
            assert_eq!(found, Ok((whole.clone(), true)), "{version:?} {info:#x} {size}");
            let apply = if version == PgVersion::V14 { 0x04 } else { 0x02 };
            let (_, applied) = unpack(version, &body(info & !apply, hole, stored)).unwrap();
            assert!(!applied);
        }
    }
}

#[test]
fn pglz_repeats_and_runs_into_itself() {
    let unpacked = |packed: &[u8]| {
        let mut plain = Vec::new();
        pglz::decompress(packed, 100, &mut plain).map(|()| plain)
    };
    assert_eq!(unpacked(b"\0abc"), Some(b"abc".to_vec()));
    assert_eq!(unpacked(b"\0abcdefgh\0i"), Some(b"abcdefghi".to_vec()));
    assert_eq!(unpacked(&[0b1000, b'a', b'b', b'c', 0x00, 3]), Some(b"abcabc".to_vec()));
    assert_eq!(unpacked(&[0b10, b'a', 0x02, 1]), Some(b"aaaaaa".to_vec()));
    assert_eq!(unpacked(&[0b10, b'a', 0x0F, 1, 2]), Some(vec![b'a'; 21]), "a long one");
    for bad in
        [&[0b1][..], &[0b10, b'a', 0x02], &[0b10, b'a', 0x0F, 1], &[0b10, b'a', 0, 2], &[0b10, b'a', 0, 0]]
    {
        assert_eq!(unpacked(bad), if bad.len() == 1 { Some(vec![]) } else { None }, "{bad:?}");
    }
    assert_eq!(unpacked(&[0b10, b'a', 0x0F, 1, 90]), None, "longer than a page can be");
}

#[test]
fn what_is_no_page_is_told() {
    let short = [7; 500];
    let found = unpack(PgVersion::V15, &body(0x02, (0, None), &short));
    assert_eq!(found, Err(ImageError::Size { found: 500 }));
    let found = unpack(PgVersion::V15, &body(0x13, (100, Some(7692)), &short));
    assert_eq!(found, Err(ImageError::Compression(Compression::Zstd)));
    let behind = unpack(
        PgVersion::V15,
        &body(0x0B, (600, Some(7692)), &lz4::block::compress(&short, None, false).unwrap()),
    );
    assert_eq!(behind, Err(ImageError::Size { found: 8192 }), "its hole begins behind it");
}

proptest! {
    #[test]
    fn any_bytes_make_a_page_or_an_error(
        info in any::<u8>(), at in any::<u16>(), length in any::<u16>(), mut stored in prop::collection::vec(any::<u8>(), 0..600),
        version in prop::sample::select(PgVersion::ALL.to_vec()), zstd in any::<bool>(),
    ) {
        if zstd {
            stored.splice(0..0, [0x28, 0xB5, 0x2F, 0xFD]);
        }
        let header = ImageHeader { length: stored.len() as u16, hole_offset: at, hole_length: length, info, version };
        let mut page = Vec::new();
        if Image::new(header, &stored).unpack(&mut page).is_ok() {
            prop_assert!(page.len().is_power_of_two() && PAGE_SIZES.contains(&page.len()));
        }
    }
}
