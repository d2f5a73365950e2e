//! A restore that was cut short and goes on (R13, R14).

use std::fs;
use std::time::Duration;

use highwater_catalog::Target;
use highwater_repository::Codec;
use highwater_restore::{Kind, Options};
use highwater_storage::ErrorKind;
use highwater_storage::faults::{Fault, Operation, Rule};
use highwater_tests::PATIENCE;

use crate::fixture::{Home, Kept, MadeUp, assert_whole, options, tree};

async fn scene() -> (Home, MadeUp, Kept) {
    scene_of(MadeUp::new()).await
}

async fn scene_of(made_up: MadeUp) -> (Home, MadeUp, Kept) {
    let home = Home::new(Codec::Lz4, false).await;
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    (home, made_up, kept)
}

/// Every read of a pack fails from the one of this number on.
fn cut_at(read: u64) -> Rule {
    Rule::on(Operation::GetRange, Fault::Before(ErrorKind::Unavailable)).keys("/packs/").skip(read)
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_wherever_it_was_cut_it_goes_on_to_the_same_end() {
    let (home, made_up, kept) = scene().await;
    let mut resumed = 0;
    for read in 0.. {
        home.fail([cut_at(read)]);
        let target = home.path(&format!("target-{read}"));
        let once = Options { checkpoint_interval: Duration::ZERO, ..options(&made_up, &target) };
        let again = Options { resume: true, ..once.clone() };
        if kept.restore(&once).await.is_ok() {
            break;
        }
        home.fail([]);
        assert!(!target.join("global/pg_control").exists());
        if target.exists() {
            assert!(target.join("highwater.restore").exists(), "it carries a mark");
            kept.restore(&once).await.unwrap_err();
        }
        kept.restore(&again).await.unwrap();
        assert_whole(&made_up, &target);
        resumed += 1;
    }
    assert!(resumed > 10, "{resumed}");
}

/// A `pg_control` that somebody has put there says nothing: the restore goes on, and without it (R14).
#[tokio::test(flavor = "multi_thread")]
async fn r14_a_control_file_of_somebody_else_s_does_not_make_it_whole() {
    let (home, made_up, kept) = scene().await;
    let target = home.path("target");
    home.fail([cut_at(8)]);
    kept.restore(&options(&made_up, &target)).await.unwrap_err();
    fs::create_dir_all(target.join("global")).unwrap();
    let control = fs::read(made_up.data().join("global/pg_control")).unwrap();
    for content in [b"junk".to_vec(), control] {
        fs::write(target.join("global/pg_control"), content).unwrap();
        home.fail([cut_at(8)]);
        kept.restore(&Options { resume: true, ..options(&made_up, &target) }).await.unwrap_err();
        assert!(!target.join("global/pg_control").exists(), "R14");
    }
    home.fail([]);
    fs::write(target.join("global/pg_control"), "junk").unwrap();
    kept.restore(&Options { resume: true, ..options(&made_up, &target) }).await.unwrap();
    assert_whole(&made_up, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_finished_is_not_fetched_again() {
    let (home, made_up, kept) = scene_of(MadeUp::large()).await;
    let (whole, part) = (home.path("whole"), home.path("part"));
    let every = |target| Options { checkpoint_interval: Duration::ZERO, ..options(&made_up, target) };
    let reads = || home.faults.calls(Operation::GetRange, "/packs/");
    let before = reads();
    let report = kept.restore(&every(&whole)).await.unwrap();
    let all = reads() - before;

    home.fail([cut_at(all * 3 / 4)]);
    kept.restore(&every(&part)).await.unwrap_err();
    home.fail([]);
    let before = reads();
    let rest = kept.restore(&Options { resume: true, ..every(&part) }).await.unwrap();
    assert!(reads() - before < all, "{} of {all} reads", reads() - before);
    assert!(rest.written_bytes < report.written_bytes, "{} of {}", rest.written_bytes, report.written_bytes);
    assert_whole(&made_up, &part);
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_another_restore_does_not_go_on_there() {
    let (home, made_up, mut kept) = scene().await;
    let target = home.path("target");
    home.fail([cut_at(8)]);
    kept.restore(&options(&made_up, &target)).await.unwrap_err();
    home.fail([]);
    let before = tree(&target);
    let resume = Options { resume: true, ..options(&made_up, &target) };
    let takeover = Options { kind: Kind::Takeover, ..resume.clone() };
    let mut elsewhere = resume.clone();
    elsewhere.tablespaces =
        vec![format!("{}={}", made_up.space().display(), home.path("x").display()).parse().unwrap()];
    for (options, reason) in
        [(takeover, "the kind was --clone"), (elsewhere, "the place of each tablespace was")]
    {
        let error = kept.restore(&options).await.unwrap_err().to_string();
        assert!(error.contains("holds another restore") && error.contains(reason), "{error}");
    }
    kept.plan.request.target = Target::Xid(7);
    let error = kept.restore(&resume).await.unwrap_err().to_string();
    assert!(error.contains("the target was"), "{error}");
    assert!(tree(&target) == before, "nothing was changed");
    kept.plan.request.target = Target::Latest;
    kept.restore(&resume).await.unwrap();
    assert_whole(&made_up, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_went_missing_meanwhile_is_written_again() {
    let (home, made_up, kept) = scene_of(MadeUp::large()).await;
    let target = home.path("target");
    let once = Options { checkpoint_interval: Duration::ZERO, ..options(&made_up, &target) };
    let reads = home.faults.calls(Operation::GetRange, "/packs/");
    kept.restore(&options(&made_up, &home.path("whole"))).await.unwrap();
    let all = home.faults.calls(Operation::GetRange, "/packs/") - reads;
    home.fail([cut_at(all - 2)]);
    kept.restore(&once).await.unwrap_err();
    home.fail([]);
    let mark = fs::read_to_string(target.join("highwater.restore")).unwrap();
    assert!(!mark.contains("\"entries_done\": 0"), "{mark}");
    fs::remove_file(target.join("PG_VERSION")).unwrap();
    fs::write(target.join("base/5/16385"), "longer than it was").unwrap();
    kept.restore(&Options { resume: true, ..once }).await.unwrap();
    assert_whole(&made_up, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_cut_after_its_last_file_is_only_tidied_up() {
    let (home, made_up, kept) = scene().await;
    let target = home.path("target");
    home.fail([cut_at(8)]);
    kept.restore(&options(&made_up, &target)).await.unwrap_err();
    home.fail([]);
    let mark = fs::read_to_string(target.join("highwater.restore")).unwrap();
    let mark = mark.replace("\"is_whole\": false", "\"is_whole\": true");
    assert!(mark.contains("\"is_whole\": true"), "{mark}");
    let resume = Options { resume: true, ..options(&made_up, &target) };
    kept.restore(&resume).await.unwrap();
    // As it is when the program dies right after `pg_control` got its name; and a server has run since.
    fs::write(target.join("highwater.restore"), mark).unwrap();
    fs::write(target.join("base/5/16384"), "new data").unwrap();
    let before = fs::metadata(target.join("global/pg_control")).unwrap().modified().unwrap();
    let report = kept.restore(&resume).await.unwrap();
    assert!(report.was_complete && report.written_bytes == 0, "{report}");
    assert!(!target.join("highwater.restore").exists());
    assert_eq!(fs::read(target.join("base/5/16384")).unwrap(), b"new data");
    assert_eq!(fs::metadata(target.join("global/pg_control")).unwrap().modified().unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_given_up_at_any_moment_it_leaves_nothing_that_would_start() {
    let (home, made_up, kept) = scene().await;
    let begun = std::time::Instant::now();
    kept.restore(&options(&made_up, &home.path("usual"))).await.unwrap();
    let usual = begun.elapsed();
    for round in 0..50 {
        let target = home.path(&format!("target-{round}"));
        let once = options(&made_up, &target);
        if tokio::time::timeout(usual * round / 50, kept.restore(&once)).await.is_err() {
            let complete = target.join("global/pg_control").exists();
            if !complete || target.join("highwater.restore").exists() {
                go_on(&kept, &Options { resume: true, ..once }).await;
            }
        }
        assert_whole(&made_up, &target);
        fs::remove_dir_all(target.with_extension("space")).unwrap();
        fs::remove_dir_all(target).unwrap();
    }
}

/// Resumes as soon as the threads of the restore that was given up have let go of the folder.
async fn go_on(kept: &Kept, options: &Options) {
    let begun = std::time::Instant::now();
    loop {
        match kept.restore(options).await {
            Ok(_) => return,
            Err(error) if error.to_string().contains("another process") => {
                assert!(begun.elapsed() < PATIENCE, "{error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // It had ended, but for the answer.
            Err(error) if error.to_string().contains("carries no mark") => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_what_the_interrupted_restore_has_not_written_is_refused_by_name() {
    let (home, made_up, kept) = scene().await;
    let target = home.path("target");
    home.fail([cut_at(8)]);
    kept.restore(&options(&made_up, &target)).await.unwrap_err();
    home.fail([]);
    let resume = Options { resume: true, ..options(&made_up, &target) };
    for foreign in
        ["pg_wal/000000010000000000000009", "pg_wal/archive_status/x.ready", "tablespace_map", "global/00FF"]
    {
        let file = target.join(foreign);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "foreign").unwrap();
        let error = kept.restore(&resume).await.unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(foreign), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"foreign");
        fs::remove_file(file).unwrap();
    }
    fs::write(target.join("standby.signal"), "").unwrap();
    kept.restore(&resume).await.unwrap();
    assert!(!target.join("standby.signal").exists());
    assert_whole(&made_up, &target);
}
