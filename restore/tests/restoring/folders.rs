//! Folders that will not do (R13, R16).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use highwater_repository::Codec;
use highwater_restore::{Error, Options, RestoreCommand};

use crate::fixture::{Home, Kept, MadeUp, assert_whole, options, tree};

async fn scene() -> (Home, MadeUp, Kept) {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    (home, made_up, kept)
}

fn assert_refused(outcome: Result<highwater_restore::Report, Error>, reason: &str) {
    let error = outcome.unwrap_err();
    let text = error.to_string();
    assert!(error.is_usage() && text.contains(reason) && text.contains("hint: "), "{reason:?}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_a_folder_with_anything_in_it_is_refused_and_left_as_it_is() {
    let (home, made_up, kept) = scene().await;
    let target = home.path("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), "data").unwrap();
    for resume in [false, true] {
        let options = Options { resume, ..options(&made_up, &target) };
        assert_refused(kept.restore(&options).await, "is not empty: it holds precious");
    }
    assert_eq!(tree(&target).len(), 1);
    assert!(!target.with_extension("space").exists());

    fs::remove_file(target.join("precious")).unwrap();
    let space = target.with_extension("space");
    fs::create_dir(&space).unwrap();
    fs::write(space.join("precious"), "data").unwrap();
    assert_refused(kept.restore(&options(&made_up, &target)).await, "target.space is not empty");
    assert_eq!((tree(&target).len(), tree(&space).len()), (0, 1));
    fs::remove_file(space.join("precious")).unwrap();
    kept.restore(&options(&made_up, &target)).await.unwrap();
    assert_whole(&made_up, &target);
    assert_refused(kept.restore(&options(&made_up, &target)).await, "is not empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_a_running_server_is_refused() {
    let (home, made_up, kept) = scene().await;
    let target = home.path("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
    for resume in [false, true] {
        let options = Options { resume, ..options(&made_up, &target) };
        assert_refused(kept.restore(&options).await, "a PostgreSQL server runs there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_stay_where_they_were_only_when_that_place_is_free() {
    let (home, made_up, kept) = scene().await;
    let (target, space) = (home.path("target"), made_up.space());
    let kept_in_place = Options { tablespaces: Vec::new(), ..options(&made_up, &target) };
    assert_refused(kept.restore(&kept_in_place).await, "space is not empty");
    let aside = home.path("aside");
    fs::rename(&space, &aside).unwrap();
    let report = kept.restore(&kept_in_place).await.unwrap();
    assert_eq!(report.tablespaces[0].to, space);
    assert!(tree(&space) == tree(&aside));
    let mut unknown = kept_in_place;
    unknown.tablespaces = vec!["/nowhere=/elsewhere".parse().unwrap()];
    assert_refused(kept.restore(&unknown).await, "no tablespace in /nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_within_each_other_are_refused() {
    let (home, made_up, kept) = scene().await;
    let none: [&str; 0] = [];
    let command = RestoreCommand::new("/bin/false", none).unwrap();
    let to = |target: &Path, space: &Path| {
        let mut options = Options::new(target, command.clone());
        let mapping = format!("{}={}", made_up.space().display(), space.display());
        options.tablespaces.push(mapping.parse().unwrap());
        options
    };
    let (target, space) = (home.path("target"), home.path("space"));
    let repository = home.path("repository");
    symlink(&repository, home.path("link")).unwrap();
    for (target, space) in [
        (&target, &target),
        (&target, &target.join("space")),
        (&space.join("data"), &space),
        (&repository.join("data"), &space),
        (&home.path("link/data"), &space),
        (&target, &repository.join("space")),
    ] {
        for folder in [target, space].into_iter().filter(|folder| !folder.exists()) {
            let parent = folder.parent().unwrap();
            fs::create_dir_all(parent).unwrap();
        }
        assert_refused(kept.restore(&to(target, space)).await, "lies within");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_an_empty_folder_is_followed() {
    let (home, made_up, kept) = scene().await;
    let real = home.path("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, home.path("link")).unwrap();
    let mut options = options(&made_up, &real);
    options.target = home.path("link");
    let report = kept.restore(&options).await.unwrap();
    assert_eq!(report.target, fs::canonicalize(&real).unwrap());
    assert_whole(&made_up, &real);
    symlink("nowhere", home.path("broken")).unwrap();
    options.target = home.path("broken");
    assert_refused(kept.restore(&options).await, "link to nothing");
    options.target = home.path("no/such/folder");
    assert_refused(kept.restore(&options).await, "there is no folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_link_in_a_manifest_is_refused() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let outside = home.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, made_up.data().join("base/6")).unwrap();
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    let target = home.path("target");
    let error = kept.restore(&options(&made_up, &target)).await.unwrap_err().to_string();
    assert!(error.contains("base/6 is a link"), "{error}");
    assert!(!target.exists() && tree(&outside).is_empty());
}
