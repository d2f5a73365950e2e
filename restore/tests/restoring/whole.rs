//! What a restore makes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use highwater_catalog::{Stop, Target};
use highwater_repository::{Codec, Marker};
use highwater_restore::{Error, Kind, Options, Owner, Progress, Role, Step, restore};
use highwater_wal::{Lsn, SystemId};

use crate::fixture::{Home, MadeUp, SYSTEM_ID, assert_whole, options, tree};

#[tokio::test(flavor = "multi_thread")]
async fn every_file_comes_back_whatever_the_envelope() {
    for (codec, encrypted) in [(Codec::Lz4, false), (Codec::Zstd, false), (Codec::Lz4, true)] {
        let (home, made_up) = (Home::new(codec, encrypted).await, MadeUp::new());
        let kept = home.back_up(&made_up.data(), &made_up.facts).await;
        let target = home.path("target");
        let report = kept.restore(&options(&made_up, &target)).await.unwrap();
        assert_whole(&made_up, &target);
        assert_eq!(report.written_bytes, report.bytes);
        assert!(fs::metadata(target.join("base/5/zeros")).unwrap().blocks() < 8, "zeros take no room");
    }
}

#[tokio::test]
async fn one_thread_is_enough() {
    let (home, made_up) = (Home::new(Codec::Lz4, true).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    let target = home.path("target");
    kept.restore(&options(&made_up, &target)).await.unwrap();
    assert_whole(&made_up, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_clone_says_so_and_does_not_archive() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    for kind in [Kind::Clone, Kind::Takeover] {
        let target = home.path(if kind == Kind::Clone { "clone" } else { "takeover" });
        let options = Options { kind, asked: "--latest".to_owned(), ..options(&made_up, &target) };
        kept.restore(&options).await.unwrap();
        let marker = Marker::read(&target).unwrap().unwrap();
        assert_eq!((marker.kind, marker.system_id, marker.target.as_str()), (kind, SYSTEM_ID, "--latest"));
        let settings = fs::read_to_string(target.join("postgresql.auto.conf")).unwrap();
        assert_eq!(settings.contains("archive_mode = 'off'"), kind == Kind::Clone);
        assert!(settings.contains("work_mem = '8MB'") && !settings.contains("'old'"), "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_gets_its_own_signal() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    let target = home.path("target");
    let report = kept.restore(&Options { role: Role::Standby, ..options(&made_up, &target) }).await.unwrap();
    assert!(target.join("standby.signal").exists() && !target.join("recovery.signal").exists());
    assert_eq!(report.stop, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_and_owners_are_as_postgresql_needs_them() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&made_up.data().join("base/5/16385"), 0o400);
    mode(&made_up.data().join("base/5/16386"), 0o6777);
    mode(&made_up.data().join("global"), 0o700);
    let private = home.back_up(&made_up.data(), &made_up.facts).await;
    mode(&made_up.data().join("global"), 0o750);
    let other = Home::new(Codec::Lz4, false).await;
    let group = other.back_up(&made_up.data(), &made_up.facts).await;
    let own = Owner { uid: own_uid(), gid: 0 };
    let owner = (own.uid == 0).then_some(Owner { uid: 7001, gid: 7002 });
    for (kept, home, folder, file) in [(private, &home, 0o700, 0o600), (group, &other, 0o750, 0o640)] {
        let target = home.path("target");
        kept.restore(&Options { owner, ..options(&made_up, &target) }).await.unwrap();
        let facts = |name: &str| fs::symlink_metadata(target.join(name)).unwrap();
        for (name, mode) in [
            ("", folder),
            ("base/5", folder),
            ("pg_wal/archive_status", folder),
            ("../target.space/PG_15_202209061", folder),
            ("recovery.signal", file),
            ("postgresql.auto.conf", file),
            ("base/5/16385", 0o400),
            ("base/5/16386", 0o777),
        ] {
            assert_eq!(facts(name).mode() & 0o7777, mode, "{name}");
        }
        let everything = tree(&target).into_keys().chain([String::new(), "../target.space".to_owned()]);
        for name in everything.filter(|name| !name.starts_with("pg_tblspc/") && !name.contains('\u{fffd}')) {
            let expected = owner.map_or((own.uid, facts("").gid()), |owner| (owner.uid, owner.gid));
            assert_eq!((facts(&name).uid(), facts(&name).gid()), expected, "{name}");
        }
    }
}

fn own_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_plan_that_was_made_by_another_backup_is_refused_before_anything_is_written() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let mut kept = home.back_up(&made_up.data(), &made_up.facts).await;
    let target = home.path("target");
    let sound = kept.plan.clone();
    kept.plan.backup.stop = Lsn(1);
    let error = kept.restore(&options(&made_up, &target)).await.unwrap_err();
    assert!(matches!(error, Error::Manifest { .. }) && error.is_damaged(), "{error}");
    kept.plan = sound;
    kept.plan.backup.label = "other".to_owned();
    let error = kept.restore(&options(&made_up, &target)).await.unwrap_err();
    assert!(error.is_damaged(), "{error}");
    assert!(!target.exists() && !target.with_extension("space").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_backup_whose_own_files_say_otherwise_is_refused_before_anything_is_written() {
    let label = b"START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nSTART TIMELINE: 1\n";
    let control = [&8_u64.to_le_bytes()[..], &[0; 8184]].concat();
    for (name, content) in
        [("backup_label", &label[..]), ("global/pg_control", &control), ("PG_VERSION", b"14\n")]
    {
        let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
        fs::write(made_up.data().join(name), content).unwrap();
        let kept = home.back_up(&made_up.data(), &made_up.facts).await;
        let target = home.path("target");
        let error = kept.restore(&options(&made_up, &target)).await.unwrap_err().to_string();
        assert!(error.contains(name.rsplit('/').next().unwrap()), "{error}");
        assert!(!target.exists());
    }
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    fs::remove_file(made_up.data().join("backup_label")).unwrap();
    let kept = home.back_up(&made_up.data(), &made_up.facts).await;
    let error = kept.restore(&options(&made_up, &home.path("target"))).await.unwrap_err().to_string();
    assert!(error.contains("backup_label is not in it"), "{error}");
}

#[derive(Default)]
struct Heard(Mutex<(Vec<Step>, u64, u64)>);

impl Progress for Heard {
    fn step(&self, step: Step) {
        self.0.lock().unwrap().0.push(step);
    }
    fn total(&self, _files: u64, bytes: u64) {
        self.0.lock().unwrap().1 = bytes;
    }
    fn written(&self, bytes: u64) {
        self.0.lock().unwrap().2 += bytes;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_adds_up_and_the_restore_is_noted() {
    let (home, made_up) = (Home::new(Codec::Lz4, false).await, MadeUp::new());
    let mut kept = home.back_up(&made_up.data(), &made_up.facts).await;
    kept.plan.request.target = Target::Lsn(Lsn(0x0300_0000));
    kept.plan.stop = Stop::Record { lsn: Lsn(0x0300_0000), inclusive: true };
    let heard = Heard::default();
    let options = options(&made_up, &home.path("target"));
    let report = restore(&kept.cluster, &kept.plan, &options, &heard).await.unwrap();
    let (steps, total, written) = heard.0.into_inner().unwrap();
    assert_eq!(steps, [Step::Proving, Step::Files, Step::Syncing]);
    assert_eq!((total, written), (report.bytes, report.bytes));

    let (names, _) = home.repository.event_names(None).await.unwrap();
    let mut noted = Vec::new();
    for name in &names {
        let event = home.repository.event(name).await.unwrap();
        assert_eq!((event.action.as_str(), event.details["backup"].as_str()), ("restore", Some("daily")));
        noted.push(format!("{:?}", event.outcome));
    }
    assert_eq!(noted, ["Begun", "Done"]);
    let other = restore(&home.cluster(SystemId(1)), &kept.plan, &options, &Heard::default()).await;
    assert!(other.is_err(), "another cluster's plan");
}
