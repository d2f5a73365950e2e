//! Stores that fail: whatever is not what it should be is named, and leaves nothing that a server would start over.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_repository::Codec;
use highwater_restore::Error;
use highwater_storage::ErrorKind;
use highwater_storage::faults::{Fault, Operation, Rule};

use crate::fixture::{Home, MadeUp, assert_whole, options};

fn packs(home: &Home) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![home.path("repository/clusters")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().contains("/packs/") => found.push(path),
                false => {}
            }
        }
    }
    found
}

fn assert_cannot_start(target: &Path) {
    assert!(!target.join("global/pg_control").exists(), "PostgreSQL would start over half a cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_whichever_read_fails_nothing_is_left_that_would_start() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    let faults = [
        Fault::Before(ErrorKind::Unavailable),
        Fault::After(ErrorKind::TimedOut),
        Fault::CutOff,
        Fault::WrongBytes,
    ];
    let mut failed = 0;
    for fault in faults {
        for skip in 0.. {
            home.fail([Rule::on(Operation::GetRange, fault).keys("/packs/").skip(skip).times(1)]);
            let target = home.path(&format!("target-{failed}"));
            let outcome = kept.restore(&options(&made_up, &target)).await;
            if home.faults.given() == 0 {
                outcome.unwrap();
                assert!(skip > 10, "the restore read {skip} ranges: too few for this test");
                fs::remove_dir_all(&target).unwrap();
                fs::remove_dir_all(target.with_extension("space")).unwrap();
                break;
            }
            match outcome {
                // What was spoilt did not matter: it is the beginning of a pack that only tells whether it is encrypted.
                Ok(_) => {
                    assert!(matches!(fault, Fault::CutOff | Fault::WrongBytes));
                    assert_whole(&made_up, &target);
                    fs::remove_dir_all(&target).unwrap();
                    fs::remove_dir_all(target.with_extension("space")).unwrap();
                }
                Err(error) => {
                    assert_cannot_start(&target);
                    let text = error.to_string();
                    assert!(text.contains("/packs/") && text.contains("hint: "), "{text}");
                    failed += 1;
                }
            }
        }
    }
    assert!(failed > 40, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_damaged_pack_is_named_with_the_file_that_it_spoils() {
    for (codec, encrypted) in [(Codec::Lz4, false), (Codec::Zstd, false), (Codec::Zstd, true)] {
        let (home, made_up) = (Home::new(codec, encrypted).await, MadeUp::new());
        let kept = home.back_up(&made_up.data(), &made_up.facts).await;
        for (number, pack) in packs(&home).into_iter().enumerate() {
            let sound = fs::read(&pack).unwrap();
            let mut damaged = sound.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            fs::write(&pack, damaged).unwrap();
            let target = home.path(&format!("target-{number}"));
            let error = kept.restore(&options(&made_up, &target)).await.unwrap_err();
            fs::write(&pack, sound).unwrap();
            assert!(error.is_damaged(), "{error}");
            assert!(error.to_string().contains(pack.file_name().unwrap().to_str().unwrap()), "{error}");
            assert!(matches!(error, Error::Content { .. }), "{error}");
            assert_cannot_start(&target);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_missing_pack_is_named() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    let pack = packs(&home).remove(0);
    fs::rename(&pack, home.path("away")).unwrap();
    let target = home.path("target");
    let error = kept.restore(&options(&made_up, &target)).await.unwrap_err();
    assert!(
        error.is_damaged() && error.to_string().contains(pack.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
    assert_cannot_start(&target);
    let noted = home.repository.event_names(None).await.unwrap().0.len();
    assert!(noted <= 2, "begun and failed, when anything was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_manifest_that_cannot_be_read_to_its_end_is_refused_before_anything_is_written() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    for fault in [Fault::CutOff, Fault::WrongBytes, Fault::Before(ErrorKind::Unavailable)] {
        home.fail([Rule::on(Operation::GetRange, fault).keys("/manifest").times(1)]);
        let target = home.path("target");
        kept.restore(&options(&made_up, &target)).await.unwrap_err();
        assert!(!target.exists(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_takes_no_notes_does_not_keep_from_restoring() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    home.fail([Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Denied)).keys("events/")]);
    let target = home.path("target");
    let report = kept.restore(&options(&made_up, &target)).await.unwrap();
    assert_whole(&made_up, &target);
    assert!(report.notes.iter().any(|note| note.contains("could not be noted")), "{report}");
}
