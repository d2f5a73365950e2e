use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;

/// A member with its content.
type Whole = (Member, Vec<u8>);

fn file(name: &str, content: &[u8]) -> Whole {
    let kind = Kind::File { size: content.len() as u64 };
    (member(name, 0o600, 1_700_000_000, kind), content.to_vec())
}

fn member(name: &str, mode: u32, modified_unix: i64, kind: Kind) -> Member {
    Member { name: name.into(), mode, modified_unix, kind }
}

/// The archive as the crate `tar` writes it, with PostgreSQL's slash behind folders and links.
fn archive(members: &[Whole], closed: bool) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (member, content) in members {
        let mut header = Header::new_ustar();
        let name = String::from_utf8(member.name.clone()).unwrap();
        let (slash, kind) = match &member.kind {
            Kind::File { .. } => ("", EntryType::Regular),
            Kind::Folder => ("/", EntryType::Directory),
            Kind::Link { target } => {
                header.set_link_name_literal(target).unwrap();
                ("/", EntryType::Symlink)
            }
        };
        header.set_path(format!("{name}{slash}")).unwrap();
        header.set_entry_type(kind);
        header.set_mode(member.mode);
        header.set_mtime(member.modified_unix as u64);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
    let mut bytes = builder.into_inner().unwrap();
    if !closed {
        bytes.truncate(bytes.len() - 2 * BLOCK);
    }
    bytes
}

/// Takes `pieces` apart and puts the members together again.
fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Whole>, Fault> {
    let mut splitter = Splitter::new();
    let mut members: Vec<Whole> = Vec::new();
    let mut open = false;
    for piece in pieces {
        splitter.push(Bytes::copy_from_slice(piece));
        while let Some(piece) = splitter.next()? {
            match piece {
                Piece::Begin(member) => {
                    assert!(!open);
                    open = matches!(member.kind, Kind::File { .. });
                    members.push((member, Vec::new()));
                }
                Piece::Content(bytes) => {
                    assert!(open && !bytes.is_empty());
                    members.last_mut().unwrap().1.extend_from_slice(&bytes);
                }
                Piece::End => {
                    let (member, content) = members.last().unwrap();
                    assert_eq!(member.kind, Kind::File { size: content.len() as u64 });
                    open = false;
                }
            }
        }
    }
    splitter.finish()?;
    assert!(!open);
    Ok(members)
}

fn examples() -> Vec<Whole> {
    let link = Kind::Link { target: b"/srv/tablespace".to_vec() };
    vec![
        file("backup_label", b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"),
        (member("base", 0o700, 0, Kind::Folder), Vec::new()),
        file("base/1/1255", &[7; 8192]),
        file("base/1/empty", b""),
        file(&format!("{}/{}", "p".repeat(90), "n".repeat(60)), &[1; 511]),
        (member("pg_tblspc/16384", 0o777, 1, link), Vec::new()),
        file("global/pg_control", &[3; 513]),
    ]
}

#[test]
fn an_archive_is_taken_apart_wherever_the_network_cuts_it() {
    for closed in [true, false] {
        let bytes = archive(&examples(), closed);
        for at in 0..=bytes.len() {
            let (left, right) = bytes.split_at(at);
            assert_eq!(split([left, right]).unwrap(), examples(), "cut at {at}");
        }
        assert_eq!(split(bytes.chunks(1)).unwrap(), examples());
        assert_eq!(split([&bytes[..]]).unwrap(), examples());
    }
}

#[test]
fn an_archive_that_ends_too_early_is_refused() {
    let whole = archive(&examples(), false);
    for end in 0..whole.len() {
        // Where a header could follow, an archive of PostgreSQL 14 may end.
        match split([&whole[..end]]) {
            Ok(members) => assert!(members.len() < examples().len() && end % BLOCK == 0, "{end}"),
            Err(fault) => assert!(matches!(fault, Fault::Truncated { .. }), "{fault}"),
        }
    }
}

#[test]
fn r22_what_postgresql_does_not_write_is_refused() {
    let whole = archive(&[file("a", b"content")], true);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        split([&bytes[..]]).unwrap_err().to_string()
    };
    let with_sum = |bytes: &mut Vec<u8>| {
        let mut header = Header::from_byte_slice(&bytes[..BLOCK]).clone();
        header.set_cksum();
        bytes[..BLOCK].copy_from_slice(header.as_bytes());
    };
    let error = changed(&|bytes| bytes[0] = b'b');
    assert_eq!(error, "the member \"b\" cannot be read: its check sum is wrong");
    for (at, value, reason) in [
        (156, b'x', "unknown kind 0x78"),
        (156, b'1', "unknown kind 0x31"),
        (156, b'5', "folder or link and has content"),
        (124, b'9', "size is no number"),
        (124, 0xff, "size is no number"),
        (100, b'8', "mode is no number"),
        (136, b'-', "time is no number"),
    ] {
        let error = changed(&|bytes| {
            bytes[at] = value;
            with_sum(bytes);
        });
        assert!(error.contains(reason), "{error}");
    }
    let error = changed(&|bytes| {
        let last = bytes.len() - 1;
        bytes[last] = 1;
    });
    assert_eq!(error, Fault::Trailing.to_string());
}

#[test]
fn sizes_above_8_gib_are_read() {
    let mut header = Header::new_ustar();
    header.set_path("base/1/1").unwrap();
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_size(1 << 40);
    header.set_cksum();
    let mut splitter = Splitter::new();
    splitter.push(Bytes::copy_from_slice(header.as_bytes()));
    let Some(Piece::Begin(begun)) = splitter.next().unwrap() else { panic!("no member") };
    assert_eq!(begun.kind, Kind::File { size: 1 << 40 });
    assert_eq!(splitter.finish(), Err(Fault::Truncated { missing: 1 << 40 }));
}

fn any_member() -> impl Strategy<Value = Whole> {
    let content = proptest::collection::vec(any::<u8>(), 0..2000);
    let kind = prop_oneof![
        4 => content.prop_map(|content| (Kind::File { size: content.len() as u64 }, content)),
        1 => Just((Kind::Folder, Vec::new())),
        1 => "[a-z/]{1,100}".prop_map(|target| (Kind::Link { target: target.into() }, Vec::new())),
    ];
    ("[a-z0-9_.][a-z0-9_./]{0,80}[a-z0-9_]", 0..0o7777u32, 0..1i64 << 33, kind).prop_filter_map(
        "a path that the crate `tar` would write otherwise",
        |(name, mode, time, (kind, content))| {
            let plain = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            plain.then(|| (member(&name, mode, time, kind), content))
        },
    )
}

proptest! {
    #[test]
    fn archives_come_out_as_they_were_made(
        members in proptest::collection::vec(any_member(), 0..6),
        closed: bool,
        size in 1usize..3000,
    ) {
        let bytes = archive(&members, closed);
        prop_assert_eq!(split(bytes.chunks(size)).unwrap(), members);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), size in 1usize..700) {
        let _ = split(bytes.chunks(size));
    }

    #[test]
    fn damaged_archives_are_read_or_refused(at in 0usize..10_000, bit in 0u8..8, size in 1usize..3000) {
        let mut bytes = archive(&examples(), true);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = split(bytes.chunks(size));
    }
}
