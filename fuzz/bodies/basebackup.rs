//! What the fuzz targets of the crate `highwater-basebackup` do with their input.

use bytes::Bytes;
use highwater_basebackup::server_manifest;
use highwater_basebackup::tar::{Fault, Kind, Member, Piece, Splitter};

const BLOCK: usize = 512;

/// An archive: the first byte says in how long pieces it comes, and whether the check sums of all blocks are mended, so that what
/// lies behind the check of them is reached.
pub fn tar(input: &[u8]) {
    let Some((&first, archive)) = input.split_first() else { return };
    let mut archive = archive.to_vec();
    if first & 1 == 1 {
        archive.as_chunks_mut::<BLOCK>().0.iter_mut().for_each(mend);
    }
    let whole = split(&archive, usize::MAX);
    let pieces = split(&archive, 1 + usize::from(first >> 1) * 11);
    assert_eq!(whole, pieces);
}

fn mend(block: &mut [u8; BLOCK]) {
    if block.iter().all(|byte| *byte == 0) {
        return;
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The members of an archive with their content, and how reading it ended.
type Taken = (Vec<(Member, Vec<u8>)>, Result<(), Fault>);

/// The members with their content, and how the archive ended.
fn split(archive: &[u8], piece: usize) -> Taken {
    let mut members: Vec<(Member, Vec<u8>)> = Vec::new();
    let mut splitter = Splitter::new();
    for piece in archive.chunks(piece) {
        splitter.push(Bytes::copy_from_slice(piece));
        loop {
            match splitter.next() {
                Err(fault) => return (members, Err(fault)),
                Ok(None) => break,
                Ok(Some(Piece::Begin(member))) => members.push((member, Vec::new())),
                Ok(Some(Piece::Content(bytes))) => {
                    let (member, content) = members.last_mut().expect("content follows a beginning");
                    content.extend_from_slice(&bytes);
                    let Kind::File { size } = member.kind else { panic!("content of no file") };
                    assert!(!bytes.is_empty() && content.len() as u64 <= size);
                }
                Ok(Some(Piece::End)) => {
                    let (member, content) = members.last().expect("an end follows a beginning");
                    assert_eq!(member.kind, Kind::File { size: content.len() as u64 });
                }
            }
        }
    }
    (members, splitter.finish())
}

/// A `backup_manifest`.
pub fn server_manifest(input: &[u8]) {
    if let Ok(summary) = server_manifest::read(input, |_| {}) {
        assert!(!summary.wal_ranges.is_empty());
        assert!(summary.wal_ranges.iter().all(|range| range.start <= range.end));
    }
}
