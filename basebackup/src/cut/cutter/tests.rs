use highwater_repository::EntryPath;
use proptest::prelude::*;

use super::*;
use crate::cut::batch::BATCH_BYTES;

fn file(path: &str, size: usize) -> manifest::File {
    let path = EntryPath::new(path).unwrap();
    manifest::File { path, mode: 0o600, size: size as u64, mtime: 0, crc32c: None }
}

fn content(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The extents of each file, and how many batches there were.
fn cut(files: &[(&str, Vec<u8>)], piece: usize) -> (Vec<Vec<Vec<u8>>>, usize) {
    let buffers = Arc::new(Buffers::default());
    let mut cutter = Cutter::new(Arc::clone(&buffers));
    let mut batches = Vec::new();
    for (path, content) in files {
        cutter.begin(file(path, content.len()), None);
        for piece in content.chunks(piece) {
            cutter.content(piece).unwrap();
            batches.extend(std::iter::from_fn(|| cutter.take_full()));
        }
        let ended = cutter.end().unwrap();
        assert_eq!(ended.crc32c, Some(crc32c::crc32c(content)));
        batches.extend(std::iter::from_fn(|| cutter.take_full()));
    }
    batches.extend(cutter.take_last());
    let mut result = vec![Vec::new()];
    for batch in &batches {
        assert!(batch.bytes.len() <= BATCH_BYTES);
        for step in &batch.steps {
            match step {
                Step::Extent { range, .. } => {
                    result.last_mut().unwrap().push(batch.bytes[range.clone()].to_vec())
                }
                Step::End(_) => result.push(Vec::new()),
                Step::Other(_) => panic!("nothing but files"),
            }
        }
    }
    assert_eq!(result.pop(), Some(Vec::new()));
    (result, batches.len())
}

fn lengths(extents: &[Vec<u8>]) -> Vec<usize> {
    extents.iter().map(Vec::len).collect()
}

#[test]
fn paged_files_are_cut_at_fixed_places_and_small_ones_are_one_extent() {
    const PAGE: usize = 8192;
    let files = [
        ("base/1/1255", content(9 * PAGE, 1)),
        ("base/1/1255_fsm", content(3 * PAGE, 2)),
        ("base/1/PG_VERSION", b"15\n".to_vec()),
        ("base/1/empty", Vec::new()),
        ("postgresql.conf", content(29_000, 3)),
        ("pg_xact/0000", content(64 << 10, 4)),
    ];
    let (extents, batches) = cut(&files, 10_000);
    let expected =
        [&[4 * PAGE, 4 * PAGE, PAGE][..], &[3 * PAGE], &[3], &[], &[29_000], &[32 << 10, 32 << 10]];
    assert_eq!(extents.iter().map(|extents| lengths(extents)).collect::<Vec<_>>(), expected);
    assert_eq!(batches, 1);
}

#[test]
fn other_files_are_cut_where_their_content_says_so() {
    let log = content(3_000_000, 5);
    let mut longer = b"a line more\n".to_vec();
    longer.extend_from_slice(&log);
    let (extents, _) = cut(&[("log/a.log", log), ("log/b.log", longer)], 100_000);
    let same = extents[1].iter().filter(|extent| extents[0].contains(extent)).count();
    assert!(extents[1].len() > 10 && same + 2 >= extents[1].len(), "{same} of {}", extents[1].len());
}

#[test]
fn r11_huge_files_have_longer_extents() {
    let mut file = file("base/1/1", 0);
    assert!(matches!(Way::of(&file), Way::Fixed { extent: RELATION_EXTENT_BYTES, .. }));
    file.size = HUGE_BYTES + 1;
    assert!(matches!(Way::of(&file), Way::Fixed { extent: MAX_EXTENT_BYTES, .. }));
}

#[test]
fn r22_more_content_than_announced_is_an_error() {
    let mut cutter = Cutter::new(Arc::default());
    assert!(cutter.content(b"x").is_err());
    assert!(cutter.end().is_err());
    cutter.begin(file("base/1/1", 3), None);
    assert!(cutter.content(b"four").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn extents_are_the_content_wherever_the_network_cuts_it(
        sizes in proptest::collection::vec((0usize..700_000, any::<bool>()), 1..6),
        piece in 1usize..300_000,
    ) {
        let files: Vec<_> = sizes
            .iter()
            .map(|(size, paged)| (if *paged { "base/1/2" } else { "log/x" }, content(*size, *size as u32)))
            .collect();
        let (extents, _) = cut(&files, piece.max(1000));
        for (extents, (_, content)) in extents.iter().zip(&files) {
            prop_assert_eq!(&extents.concat(), content);
        }
        prop_assert_eq!(extents, cut(&files, usize::MAX).0);
    }
}
