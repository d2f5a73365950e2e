use std::io::Write;
use std::process::{Command, Stdio};

use lz4_flex::frame::FrameDecoder;
use proptest::prelude::*;

use super::*;

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Half text that compresses, half noise that does not.
fn mixed(length: usize) -> Vec<u8> {
    let noise = noise(length, 7);
    (0..length)
        .map(|at| if at / 5000 % 2 == 0 { noise[at] } else { b"the same words again and again. "[at % 32] })
        .collect()
}

/// The frame of `plain`, which was shown block by block in order.
fn encode_all(plain: &[u8], compression: &Compression) -> Encoded {
    let mut shown = Vec::new();
    let encoded = encode(plain, compression, &mut |block| shown.extend_from_slice(block)).unwrap();
    assert!(shown == plain);
    encoded
}

fn both() -> [Compression; 4] {
    let lz4 = Compression { codec: Codec::Lz4, level: 1, threads: 1 };
    let zstd = Compression { codec: Codec::Zstd, ..lz4 };
    [lz4, Compression { threads: 2, ..lz4 }, zstd, Compression { threads: 2, ..zstd }]
}

fn decoded(frame: &[u8], length: usize, threads: usize) -> Result<(Vec<u8>, Digest), Fault> {
    let mut plain = vec![0; length];
    let digest = decode(frame, length as u64, threads, &MemorySink::new(&mut plain))?;
    Ok((plain, digest))
}

#[test]
fn a_file_is_compressed_as_what_is_in_it() {
    let plain = mixed(5 * BLOCK_BYTES + 77);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&plain).unwrap();
    for compression in both() {
        let content = FileContent::new(file.try_clone().unwrap(), plain.len() as u64);
        let encoded = encode(&content, &compression, &mut |_| {}).unwrap();
        let expected = encode_all(&plain, &compression);
        assert_eq!(encoded.digest, expected.digest);
        let mut decoded = vec![0; plain.len()];
        decode(&encoded.frame.concat(), plain.len() as u64, 2, &MemorySink::new(&mut decoded)).unwrap();
        assert!(decoded == plain);
        // Shorter than it was found to be.
        let short = FileContent::new(file.try_clone().unwrap(), plain.len() as u64 + 1);
        let error = encode(&short, &compression, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn frames_hold_what_was_put_in_whatever_the_length_and_the_number_of_threads() {
    let bytes = mixed(5 * BLOCK_BYTES + 12345);
    for compression in both() {
        for length in
            [0, 1, 65536, 65537, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 4 * BLOCK_BYTES, bytes.len()]
        {
            let plain = &bytes[..length];
            let encoded = encode_all(plain, &compression);
            assert_eq!(encoded.digest, Digest::of(plain), "{length} {compression:?}");
            let frame = encoded.frame.concat();
            for threads in [1, 2, 5] {
                let (got, digest) = decoded(&frame, length, threads).unwrap();
                assert!(got == plain && digest == encoded.digest, "{length} {compression:?} {threads}");
            }
            assert!(decode_small(&frame, length).unwrap() == plain);
            assert!(decoded(&frame, length + 1, 2).is_err());
            if length > 0 {
                assert!(decoded(&frame, length - 1, 2).is_err());
                assert!(decode_small(&frame, length - 1).is_err());
            }
        }
    }
}

#[test]
fn another_implementation_reads_our_lz4_frames() {
    let plain = mixed(3 * BLOCK_BYTES + 1);
    for length in [0, 100, 200_000, plain.len()] {
        let frame = encode_all(&plain[..length], &both()[1]).frame.concat();
        let mut got = Vec::new();
        std::io::copy(&mut FrameDecoder::new(&frame[..]), &mut got).unwrap();
        assert!(got == plain[..length]);
    }
}

/// What a program makes of `input`.
fn filtered(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}: {:?}", output.status);
    output.stdout
}

#[test]
fn the_stock_tools_read_our_frames_and_pass_over_the_skippable_one() {
    let bytes = mixed(3 * BLOCK_BYTES + 1);
    for compression in both() {
        let (program, arguments) = match compression.codec {
            Codec::Lz4 => ("lz4", ["-d", "-c"]),
            Codec::Zstd => ("zstd", ["-d", "-c"]),
        };
        for length in [0, 1, 300_000, bytes.len()] {
            let plain = &bytes[..length];
            let mut object = write_skippable(b"{\"facts\":1}");
            object.extend(encode_all(plain, &compression).frame.concat());
            assert!(filtered(program, &arguments, &object) == plain, "{program} {length}");
        }
        let mut encoder = SmallEncoder::new(&compression).unwrap();
        let pack: Vec<u8> =
            bytes.chunks(131_072).flat_map(|extent| encoder.encode(extent).unwrap()).collect();
        assert!(filtered(program, &arguments, &pack) == bytes, "{program} reads a pack");
    }
}

#[test]
fn r07_a_damaged_frame_is_never_taken_for_other_content() {
    let plain = mixed(3000);
    for compression in both() {
        let encoded = encode_all(&plain, &compression);
        let frame = encoded.frame.concat();
        for at in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok((got, digest)) = decoded(&damaged, plain.len(), 1) {
                assert!(digest != encoded.digest || got == plain, "byte {at}");
            }
            if let Ok(got) = decode_small(&damaged, 1 << 20) {
                assert!(got == plain, "byte {at}");
            }
            assert!(decoded(&frame[..at], plain.len(), 1).is_err(), "cut at {at}");
            assert!(decode_small(&frame[..at], 1 << 20).is_err(), "cut at {at}");
        }
        let mut longer = frame.clone();
        longer.push(0);
        assert!(decoded(&longer, plain.len(), 1).is_err() && decode_small(&longer, 1 << 20).is_err());
    }
}

#[test]
fn r22_a_length_that_a_header_claims_is_not_believed() {
    let mut lz4 = encode_all(&[7; 100], &both()[0]).frame.concat();
    lz4[6..14].copy_from_slice(&(1u64 << 60).to_le_bytes());
    lz4[14] = (twox_hash::XxHash32::oneshot(0, &lz4[4..14]) >> 8) as u8;
    assert!(matches!(decode_small(&lz4, 1 << 20), Err(Fault::Damaged(reason)) if reason.contains("claims")));

    let bomb = zstd::encode_all(&vec![0; 4 << 20][..], 19).unwrap();
    assert!(decode_small(&bomb, 1 << 20).is_err());

    for first in 0x51..=0x5F {
        let mut other = write_skippable(b"x");
        other[0] = first;
        assert!(read_skippable(&other, 1 << 20).is_err(), "{first:02X}");
    }

    let mut skippable = write_skippable(b"x");
    skippable[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(read_skippable(&skippable, 1 << 20).is_err());
}

#[test]
fn a_sink_that_fails_ends_the_work_with_its_error() {
    struct Full;
    impl Sink for Full {
        fn write_at(&self, offset: u64, _: &[u8]) -> io::Result<()> {
            if offset > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }
    let plain = mixed(6 * BLOCK_BYTES);
    for compression in both() {
        let frame = encode_all(&plain, &compression).frame.concat();
        for threads in [1, 2] {
            let fault = decode(&frame, plain.len() as u64, threads, &Full).unwrap_err();
            assert!(matches!(fault, Fault::Sink(error) if error.kind() == io::ErrorKind::StorageFull));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn extents_come_back_as_they_were(plain in proptest::collection::vec(0u8..4, 0..200_000), zstd: bool) {
        let codec = if zstd { Codec::Zstd } else { Codec::Lz4 };
        let frame = SmallEncoder::new(&Compression { codec, ..Compression::default() }).unwrap().encode(&plain).unwrap();
        let mut got = vec![0; plain.len()];
        decode_extent(&frame, &mut got).map_err(|fault| TestCaseError::fail(format!("{fault:?}")))?;
        prop_assert!(got == plain);
        let mut longer = vec![0; plain.len() + 1];
        prop_assert!(decode_extent(&frame, &mut longer).is_err());
    }

    #[test]
    fn r22_any_bytes_are_answered_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..4u8) {
        let mut input = match kind {
            0 => LZ4_MAGIC.to_le_bytes().to_vec(),
            1 => ZSTD_MAGIC.to_le_bytes().to_vec(),
            2 => encode_all(&[5; 1000], &Compression::default()).frame.concat()[..20].to_vec(),
            _ => Vec::new(),
        };
        input.extend(bytes);
        let _ = decode_small(&input, 100_000);
        let _ = decoded(&input, 1000, 2);
        let _ = decode_extent(&input, &mut [0; 500]);
        let _ = read_skippable(&input, 100);
    }
}
