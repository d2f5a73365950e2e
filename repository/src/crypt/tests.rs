use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use highwater_storage::Secret;

use super::*;
use crate::digest::Plain;

fn pair() -> (Recipients, Identities) {
    let identity = age::x25519::Identity::generate();
    let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap().unwrap();
    (recipients, Identities::parse(&text(&identity)).unwrap())
}

fn text(identity: &age::x25519::Identity) -> String {
    use age::secrecy::ExposeSecret;
    format!("# a comment\n\n{}\n", identity.to_string().expose_secret())
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * n / 7 + n) as u8).collect()
}

fn sealed(recipients: &Recipients, plain: &[u8]) -> Bytes {
    let pieces = plain.chunks(100_000).map(Bytes::copy_from_slice).collect();
    recipients.seal(pieces, Plain::of(plain)).unwrap().concat().into()
}

#[test]
fn what_is_sealed_can_be_opened_by_its_identity_only() {
    let (recipients, identities) = pair();
    for length in [0, 1, 65535, 65536, 65537, 300_000] {
        let plain = bytes(length);
        let object = sealed(&recipients, &plain);
        assert!(is_encrypted(&object));
        assert!(identities.open(&object).unwrap() == plain);
        assert!(matches!(pair().1.open(&object), Err(Unopened::NoIdentity)));
        assert!(matches!(Identities::default().open(&object), Err(Unopened::NoIdentity)));
    }
}

#[test]
fn several_recipients_can_each_open() {
    let (a, open_a) = pair();
    let (b, open_b) = pair();
    let both = Recipients::parse(&[a.texts(), b.texts()].concat()).unwrap().unwrap();
    let object = sealed(&both, b"secret");
    assert_eq!(open_a.open(&object).unwrap(), b"secret");
    assert_eq!(open_b.open(&object).unwrap(), b"secret");
}

#[test]
fn r03_length_and_digest_can_be_read_without_an_identity() {
    let (recipients, _) = pair();
    let plain = bytes(1000);
    let object = sealed(&recipients, &plain);
    let start = payload_start(&object).unwrap();
    assert_eq!(plain_of_header(&object).unwrap(), Plain::of(&plain));
    assert_eq!(plain_of_header(&object[..start]).unwrap(), Plain::of(&plain));
    assert!(plain_of_header(&object[..start - 30]).is_err(), "a header cut short says nothing");
    assert!(plain_of_header(b"age-encryption.org/v1\n-> X25519 a\nb\n--- c\n").is_err());
}

#[test]
fn ranges_are_opened_from_the_chunks_that_hold_them() {
    let (recipients, identities) = pair();
    for length in [300_000usize, 4 * 65536] {
        let plain = bytes(length);
        let object = sealed(&recipients, &plain);
        let start = payload_start(&object).unwrap();
        for (from, to) in [
            (0, 1),
            (0, length),
            (5, 70_000),
            (65536, 65537),
            (65535, 65536),
            (131_072, 196_608),
            (length - 1, length),
            (length - 10, length + 10),
        ] {
            let range = ChunkRange::new(start, from as u64..to as u64);
            let end = object.len().min(range.stored.end as usize);
            let stored = object.slice(range.stored.start as usize..end);
            let got = identities.open_range(object.slice(..start), &range, stored).unwrap();
            assert!(got == plain[from..to.min(length)], "{from}..{to} of {length}");
        }
    }
}

#[test]
fn r07_no_damaged_object_opens_as_something_else() {
    let (recipients, identities) = pair();
    let plain = bytes(500);
    let object = sealed(&recipients, &plain);
    for at in 0..object.len() {
        let mut damaged = object.to_vec();
        damaged[at] ^= 1;
        if let Ok(got) = identities.open(&damaged) {
            assert!(got == plain, "byte {at}");
        }
        assert!(identities.open(&object[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn the_stock_tool_reads_our_objects_and_a_wrapped_identity_is_an_age_file() {
    let identity = age::x25519::Identity::generate();
    let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity.txt");
    std::fs::write(&file, text(&identity)).unwrap();
    for length in [0, 100, 200_000] {
        let plain = bytes(length);
        let object = sealed(&recipients, &plain);
        let mut child = Command::new("age")
            .args(["-d", "-i"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("age is needed");
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || stdin.write_all(&object));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        assert!(output.status.success() && output.stdout == plain);
    }
}

#[test]
fn an_identity_is_wrapped_by_a_passphrase() {
    let identity = text(&age::x25519::Identity::generate());
    let wrapped = wrap_identity(&identity, &Secret::new("correct horse"), 4).unwrap();
    assert!(is_encrypted(&wrapped));
    assert_eq!(unwrap_identity(&wrapped, &Secret::new("correct horse")).unwrap().expose(), identity);
    assert!(matches!(unwrap_identity(&wrapped, &Secret::new("wrong")), Err(Unopened::NoIdentity)));
    assert!(matches!(unwrap_identity(&wrapped[..100], &Secret::new("x")), Err(Unopened::Fault(_))));
}

#[test]
fn r21_identities_are_never_printed() {
    let identity = age::x25519::Identity::generate();
    let identities = Identities::parse(&text(&identity)).unwrap();
    assert_eq!(format!("{identities:?}"), "1 identities");
    assert_eq!(Identities::parse("# fine\nAGE-SECRET-KEY-1WRONG\n").unwrap_err(), 2);
    assert_eq!(Recipients::parse(&["age1wrong".to_owned()]).unwrap_err(), 1);
}
