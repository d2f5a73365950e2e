//! Extents, packs, and reading them back by ranges.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use std::sync::Arc;

use common::{KINDS, Kind, Scratch, cluster};
use highwater_repository::{
    Backups, Error, ExtentCompressor, ExtentReader, ExtentRef, PackLimits, PackTotals, PackWriter,
    Repository, StoredPack,
};
use highwater_storage::ErrorKind;
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};

const LIMITS: PackLimits = PackLimits { target_bytes: 200_000, uploads: 2 };

fn extent(number: usize) -> Vec<u8> {
    let length = [8192, 131_072, 1, 65_536, 300_000, 70_000][number % 6];
    let mut state = number as u32 + 1;
    let noise = |at| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        if at % 3 == 0 { number as u8 } else { state as u8 }
    };
    (0..length).map(noise).collect()
}

async fn fill(backups: &Backups, count: usize) -> Result<(Vec<ExtentRef>, PackTotals), Error> {
    let mut compressor = ExtentCompressor::new(&backups.repository().compression()).unwrap();
    let mut writer = PackWriter::new(backups, LIMITS);
    let mut places = Vec::new();
    for number in 0..count {
        places.push(writer.add(&compressor.compress(&extent(number)).unwrap()).await?);
    }
    Ok((places, writer.finish().await?))
}

/// Extents that lie in one pack, for each pack.
fn by_pack(places: &[ExtentRef]) -> impl Iterator<Item = &[ExtentRef]> {
    places.chunk_by(|a, b| a.pack == b.pack)
}

async fn read(reader: &ExtentReader, extents: &[ExtentRef]) -> Result<Vec<Vec<u8>>, Error> {
    let fetched = reader.fetch(extents).await?;
    assert_eq!(fetched.len(), extents.len());
    let mut plain = Vec::new();
    fetched.each(&mut Vec::new(), |_, bytes| {
        plain.push(bytes.to_vec());
        Ok::<_, Error>(())
    })?;
    Ok(plain)
}

#[tokio::test]
async fn extents_come_back_in_whatever_ranges_they_are_asked_for() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let backups = scratch.cluster().backups();
        let (places, totals) = fill(&backups, 40).await.unwrap();
        assert_eq!((totals.extents, totals.packs), (40, by_pack(&places).count() as u64));
        let stored: usize = scratch.store.objects().values().map(|object| object.len()).sum();
        assert_eq!(totals.stored_bytes, stored as u64);
        assert!(totals.packs > 3, "{kind:?} {totals:?}");

        let wanted: Vec<Vec<u8>> = (0..40).map(extent).collect();
        let reader = ExtentReader::new(&backups);
        let mut number = 0;
        for pack in by_pack(&places) {
            let whole = read(&reader, pack).await.unwrap();
            assert!(whole == wanted[number..number + pack.len()], "{kind:?}");
            for step in [1, 2, 3] {
                let some: Vec<ExtentRef> = pack.iter().step_by(step).copied().collect();
                let got = read(&ExtentReader::new(&backups), &some).await.unwrap();
                assert!(got.iter().eq(wanted[number..number + pack.len()].iter().step_by(step)), "{kind:?}");
            }
            let last = &pack[pack.len() - 1..];
            assert!(read(&reader, last).await.unwrap()[0] == wanted[number + pack.len() - 1]);
            number += pack.len();
        }
        assert!(reader.fetch(&[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn r07_no_spoiled_byte_of_a_pack_passes() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let backups = scratch.cluster().backups();
        let mut compressor = ExtentCompressor::new(&scratch.repository.compression()).unwrap();
        let mut writer = PackWriter::new(&backups, LIMITS);
        let wanted: Vec<Vec<u8>> = (0u8..3).map(|n| vec![n; 300 + usize::from(n)]).collect();
        let mut places = Vec::new();
        for plain in &wanted {
            places.push(writer.add(&compressor.compress(plain).unwrap()).await.unwrap());
        }
        writer.finish().await.unwrap();
        let (key, object) = common::only(&scratch.store, "packs/");
        for at in 0..object.len() {
            let mut spoiled = object.to_vec();
            spoiled[at] ^= 1 << (at % 8);
            scratch.store.spoil(&key, spoiled);
            match read(&ExtentReader::new(&backups), &places).await {
                Ok(got) => assert!(got == wanted, "{kind:?} byte {at}"),
                Err(error) => assert!(error.to_string().contains("packs/"), "{error}"),
            }
            scratch.store.spoil(&key, object.slice(..at));
            assert!(read(&ExtentReader::new(&backups), &places).await.is_err(), "{kind:?} cut at {at}");
        }
    }
}

#[tokio::test]
async fn r22_extents_that_no_pack_can_have_are_refused() {
    let scratch = Scratch::new(Kind::Lz4);
    let backups = scratch.cluster().backups();
    let (places, _) = fill(&backups, 4).await.unwrap();
    let good = places[0];
    let reader = ExtentReader::new(&backups);
    for bad in [
        ExtentRef { length: 0, ..good },
        ExtentRef { length: u32::MAX, ..good },
        ExtentRef { stored: u32::MAX, ..good },
        ExtentRef { stored: 0, ..good },
        ExtentRef { offset: u64::MAX, ..good },
        ExtentRef { offset: 1 << 29, ..good },
        ExtentRef { length: good.length + 1, ..good },
        ExtentRef { digest: highwater_repository::Digest::of(b"x"), ..good },
    ] {
        let error = read(&reader, &[bad]).await.unwrap_err();
        assert!(error.is_damaged(), "{error}");
    }
    let backwards = reader.fetch(&[places[1], places[0]]).await.unwrap_err();
    assert!(matches!(backwards, Error::Refused { .. }));
    assert!(ExtentCompressor::new(&scratch.repository.compression()).unwrap().compress(&[]).is_err());
}

#[tokio::test]
async fn r01_when_the_writer_has_finished_every_pack_is_there() {
    let mut finished = 0;
    for seed in 0..40 {
        let scratch = Scratch::new(KINDS[seed % KINDS.len()]);
        let faults =
            [Fault::Precondition, Fault::After(ErrorKind::TimedOut), Fault::Before(ErrorKind::Unavailable)];
        let rules = faults.map(|fault| Rule::on(Operation::PutIfAbsent, fault).probability(0.08));
        let store = Arc::new(FaultStore::new(scratch.store.clone(), seed as u64, rules));
        let shaky = cluster(&Repository::with_store(store, &scratch.config).unwrap()).backups();
        if let Ok((places, _)) = fill(&shaky, 20).await {
            finished += 1;
            let reader = ExtentReader::new(&scratch.cluster().backups());
            let mut number = 0;
            for pack in by_pack(&places) {
                for plain in read(&reader, pack).await.unwrap() {
                    assert!(plain == extent(number), "seed {seed}");
                    number += 1;
                }
            }
        }
    }
    assert!((5..40).contains(&finished), "{finished} of 40 went through: both ways must be tried");
}

/// Every pack of the section with its length.
async fn listed(backups: &Backups) -> Vec<StoredPack> {
    let page = backups.packs(None).await.unwrap();
    assert_eq!(page.next, None);
    page.packs
}

#[tokio::test]
async fn r09_how_far_a_pack_reaches_is_told_without_reading_it() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let backups = scratch.cluster().backups();
        let (places, totals) = fill(&backups, 40).await.unwrap();
        scratch.store.spoil("clusters/main/7/packs/00/stray", &b"x"[..]);
        let packs = listed(&backups).await;
        assert_eq!(packs.len() as u64, totals.packs, "{kind:?}");
        assert!(packs.is_sorted_by_key(|pack| pack.id));
        for extents in by_pack(&places) {
            let end = |extent: &ExtentRef| extent.offset + u64::from(extent.stored);
            let length = end(&extents[extents.len() - 1]);
            let of =
                |packs: Vec<StoredPack>| packs.into_iter().find(|pack| pack.id == extents[0].pack).unwrap();
            assert_eq!(backups.readable_bytes(of(packs.clone())).await.unwrap(), length, "{kind:?}");
            let key = backups.section().pack(extents[0].pack).to_string();
            let object = scratch.store.objects()[&key].clone();
            for left in [1, 10, 100, 500, object.len() / 2, object.len() * 4 / 5, object.len() - 1] {
                scratch.store.spoil(&key, object.slice(..left));
                let readable = backups.readable_bytes(of(listed(&backups).await)).await.unwrap();
                assert!(readable < length, "{kind:?}: {left} of {}", object.len());
                for extent in extents {
                    let is_read = read(&ExtentReader::new(&backups), &[*extent]).await.is_ok();
                    assert_eq!(is_read, end(extent) <= readable, "{kind:?}: {left} of {}", object.len());
                }
            }
            scratch.store.spoil(&key, object);
        }
    }
}

#[tokio::test]
async fn r09_a_plain_pack_in_a_repository_that_now_encrypts_reaches_its_end() {
    let plain = Scratch::new(Kind::Lz4);
    fill(&plain.cluster().backups(), 4).await.unwrap();
    let encrypted = Scratch::new(Kind::EncryptedLz4);
    let repository = Repository::with_store(plain.store.clone(), &encrypted.config).unwrap();
    let backups = cluster(&repository).backups();
    for pack in listed(&backups).await {
        assert_eq!(backups.readable_bytes(pack).await.unwrap(), pack.stored_bytes);
    }
}
