//! The local folder: the contract, and what only a file system has.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use highwater_storage::{ErrorKind, Key, Put, Store, StoreConfig, conformance, create, open};
use highwater_tests::{PATIENCE, SmallDisk, wait_until};

use crate::again;
use crate::common::key;

fn config(folder: &Path) -> StoreConfig {
    let mut config = StoreConfig::from_url(format!("file://{}", folder.display()));
    config.retry_budget = Some(Duration::ZERO);
    config
}

fn store(folder: &Path) -> Arc<dyn Store> {
    open(&config(folder)).unwrap()
}

async fn put(store: &dyn Store, name: &str, content: &[u8]) -> Put {
    store.put_if_absent(&key(name), &content.to_vec().into()).await.unwrap()
}

/// All paths below `folder`, relative to it.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(folder).unwrap().to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_local_folder_conforms() {
    let scratch = tempfile::tempdir().unwrap();
    let store = create(&config(&scratch.path().join("new/repository"))).unwrap();
    conformance::check(&*store, &key("conformance")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_folder_conforms_on_several_threads() {
    let scratch = tempfile::tempdir().unwrap();
    conformance::check(&*store(scratch.path()), &key("a/b")).await.unwrap();
}

#[tokio::test]
async fn r06_a_missing_root_is_not_a_missing_object() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store(&scratch.path().join("not/mounted"));
    let errors = [
        store.get(&key("a/b")).await.map(|_| ()),
        store.get_range(&key("a"), 0..1).await.map(|_| ()),
        store.size(&key("a")).await.map(|_| ()),
        store.list("a/", None, false).await.map(|_| ()),
        store.list("", None, true).await.map(|_| ()),
        store.put_if_absent(&key("a/b"), &vec![1].into()).await.map(|_| ()),
        store.delete(&key("a")).await,
    ]
    .map(Result::unwrap_err);
    for error in errors {
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("mounted"), "{error}");
    }
    assert!(tree(scratch.path()).is_empty(), "nothing may be made where the root is missing");
}

#[tokio::test]
async fn r06_a_link_that_leads_nowhere_is_not_a_missing_object() {
    let scratch = tempfile::tempdir().unwrap();
    symlink("/not/mounted", scratch.path().join("wal")).unwrap();
    let store = store(scratch.path());
    let errors = [
        store.get(&key("wal/1")).await.map(|_| ()),
        store.size(&key("wal/a/b")).await.map(|_| ()),
        store.get(&key("wal")).await.map(|_| ()),
        store.list("wal/", None, false).await.map(|_| ()),
        store.list("", None, false).await.map(|_| ()),
        store.put_if_absent(&key("wal/1"), &vec![1].into()).await.map(|_| ()),
        store.delete(&key("wal/1")).await,
    ]
    .map(Result::unwrap_err);
    for error in errors {
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    }
}

#[tokio::test]
async fn a_folder_may_be_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (scratch.path().join("root"), scratch.path().join("elsewhere"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    symlink(&elsewhere, root.join("wal")).unwrap();
    let store = store(&root);
    assert_eq!(put(&*store, "wal/1", b"x").await, Put::Created);
    assert_eq!(fs::read(elsewhere.join("1")).unwrap(), b"x");
    assert_eq!(store.list("", None, false).await.unwrap().entries[0].key, key("wal/1"));
    assert_eq!(store.list("", None, true).await.unwrap().folders, ["wal/"]);
}

#[tokio::test]
async fn a_key_is_never_a_folder_of_others() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store(scratch.path());
    assert_eq!(put(&*store, "a", b"x").await, Put::Created);
    assert_eq!(put(&*store, "b/c", b"x").await, Put::Created);
    let kinds = [
        store.put_if_absent(&key("a/b"), &vec![1].into()).await.map(|_| ()),
        store.put_if_absent(&key("b"), &vec![1].into()).await.map(|_| ()),
        store.get(&key("a/b")).await.map(|_| ()),
        store.get(&key("b")).await.map(|_| ()),
        store.size(&key("b")).await.map(|_| ()),
        store.delete(&key("b")).await,
    ]
    .map(|result| result.unwrap_err().kind);
    assert_eq!(kinds, [ErrorKind::Invalid; 6]);
    assert_eq!(store.get(&key("b/c")).await.unwrap(), "x");
}

#[tokio::test]
async fn what_is_no_key_is_not_listed() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store(scratch.path());
    assert_eq!(put(&*store, "wal/good", b"x").await, Put::Created);
    for stray in
        [".hidden/file", "wal/.swp", "wal/two words", "wal/ä", "lost+found/x", "only strays/x", "empty"]
    {
        let path = scratch.path().join(stray);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if stray == "empty" { fs::create_dir(path).unwrap() } else { fs::write(path, b"y").unwrap() }
    }
    let all = store.list("", None, false).await.unwrap();
    assert_eq!(all.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["wal/good"]);
    assert_eq!(store.list("", None, true).await.unwrap().folders, ["wal/"]);
    for hidden in [".aside/", ".hidden/", ".", "..", "../", "/", "//"] {
        assert_eq!(store.list(hidden, None, false).await.unwrap().entries, [], "{hidden}");
    }
}

/// More names than a page has, so that they are remembered.
const MANY: usize = 1500;

/// All keys of a listing.
async fn all(store: &dyn Store, prefix: &str) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, after.as_deref(), false).await.unwrap();
        found.extend(page.entries.into_iter().map(|entry| entry.key.to_string()));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn r06_a_listing_of_a_large_folder_sees_what_was_put_before_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other) = (store(folder.path()), store(folder.path()));
    fs::create_dir(folder.path().join("many")).unwrap();
    let mut expected: Vec<String> = (0..MANY).map(|number| format!("many/{number:06}")).collect();
    expected.iter().for_each(|name| fs::write(folder.path().join(name), b"").unwrap());
    assert_eq!(all(&*store, "many/").await, expected);
    for number in 0..200 {
        // By this process and by another one; each shows in the next listing, however soon it comes.
        let writer = if number % 2 == 0 { &store } else { &other };
        let name = format!("many/{:06}-", (number * 7919) % MANY);
        assert_eq!(put(&**writer, &name, b"").await, Put::Created);
        expected.push(name);
        expected.sort();
        assert_eq!(all(&*store, "many/").await, expected);
        let gone = expected.remove(number);
        writer.delete(&key(&gone)).await.unwrap();
        assert_eq!(all(&*store, "many/").await, expected);
    }
}

#[tokio::test]
async fn a_listing_goes_on_over_changes_and_leaves_out_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    fs::create_dir(folder.path().join("many")).unwrap();
    for number in 0..MANY {
        fs::write(folder.path().join(format!("many/{number:06}")), b"").unwrap();
    }
    let first = store.list("many/", None, false).await.unwrap();
    store.delete(&key("many/001200")).await.unwrap();
    assert_eq!(put(&*store, "many/000001-", b"").await, Put::Created);
    let second = store.list("many/", first.next.as_deref(), false).await.unwrap();
    let found = first.entries.iter().chain(&second.entries).map(|entry| entry.key.to_string());
    let others = |name: &String| name != "many/000001-";
    let expected = (0..MANY).filter(|number| *number != 1200).map(|number| format!("many/{number:06}"));
    assert_eq!(found.filter(others).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    // Asked once more it is a page of its own, and sees everything.
    assert_eq!(put(&*store, "many/001200-", b"").await, Put::Created);
    let again = store.list("many/", first.next.as_deref(), false).await.unwrap();
    assert!(again.entries.iter().any(|entry| entry.key.as_str() == "many/001200-"));
}

#[tokio::test]
async fn r21_modes_do_not_depend_on_the_umask() {
    const TEST: &str = "folder::r21_modes_do_not_depend_on_the_umask";
    if let Some(folder) = again::role() {
        let store = create(&config(Path::new(&folder))).unwrap();
        assert_eq!(put(&*store, "a/b/c", b"x").await, Put::Created);
        store.grow(&key("a/d/e"), 4096).await.unwrap().unwrap();
        return;
    }
    for umask in ["000", "022", "027", "077"] {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("above/root");
        let before = ["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"];
        again::run(&mut again::command(&before, TEST, root.to_str().unwrap()));
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
        for folder in ["", "..", "a", "a/b", "a/d", ".aside"] {
            assert_eq!(mode(folder), 0o750, "umask {umask}, folder {folder:?}");
        }
        assert_eq!((mode("a/b/c"), mode("a/d/e")), (0o640, 0o640), "umask {umask}");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_is_left_behind() {
    let disk = SmallDisk::of_megabytes(4);
    let root = disk.path().join("root");
    let store = create(&config(&root)).unwrap();
    assert_eq!(put(&*store, "small", b"x").await, Put::Created);
    let before = tree(&root);

    let error = store.put_if_absent(&key("new/large"), &vec![1; 8 << 20].into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(store.grow(&key("new/growing"), 8 << 20).await.unwrap_err().kind, ErrorKind::NoSpace);
    disk.fill();
    let error = store.put_if_absent(&key("new/small"), &vec![1; 1000].into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    assert_eq!(tree(&root), before);
    // What exists needs no room to be found.
    assert_eq!(put(&*store, "small", &[1; 100_000]).await, Put::Exists);

    disk.make_room();
    assert_eq!(put(&*store, "new/small", b"y").await, Put::Created);
}

#[tokio::test]
async fn what_killed_writers_left_aside_is_removed_by_its_age() {
    let scratch = tempfile::tempdir().unwrap();
    assert_eq!(put(&*store(scratch.path()), "first", b"x").await, Put::Created);
    let aside = scratch.path().join(".aside");
    let age = |name: &str, age: Duration| {
        let file = File::create(aside.join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    age("old", Duration::from_secs(25 * 3600));
    age("young", Duration::from_secs(23 * 3600));
    assert_eq!(put(&*store(scratch.path()), "second", b"x").await, Put::Created);
    assert_eq!(tree(&aside), [PathBuf::from("young")]);
}

#[tokio::test]
async fn puts_and_deletes_in_one_folder_do_not_disturb_each_other() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store(scratch.path());
    let work = async |worker: usize| {
        for round in 0..100 {
            let name = format!("deep/er/folder/{worker}-{round}");
            assert_eq!(put(&*store, &name, name.as_bytes()).await, Put::Created);
            assert_eq!(store.get(&key(&name)).await.unwrap(), name);
            store.delete(&key(&name)).await.unwrap();
        }
    };
    join_all((0..8).map(work)).await;
    assert_eq!(tree(scratch.path()), [PathBuf::from(".aside")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_makes_its_folders_anew_however_often_they_are_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store(scratch.path());
    let deepest = scratch.path().join("a/b/c");
    let done = Arc::new(AtomicBool::new(false));
    let remover = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                for folder in deepest.ancestors().take(3) {
                    let _ = fs::remove_dir(folder);
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    });
    for round in 0..200 {
        let name = format!("a/b/c/{round}");
        assert_eq!(put(&*store, &name, b"x").await, Put::Created);
        store.delete(&key(&name)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    remover.join().unwrap();
}

/// The content that belongs to a key: a page of its name, long enough that writing takes a while.
fn content_of(key: &Key) -> Vec<u8> {
    key.as_str().bytes().cycle().take(300_000).collect()
}

#[tokio::test]
async fn r01_r02_a_killed_writer_leaves_whole_objects_or_none() {
    const TEST: &str = "folder::r01_r02_a_killed_writer_leaves_whole_objects_or_none";
    if let Some(folder) = again::role() {
        let store = store(Path::new(&folder));
        let writer = std::process::id();
        for number in 0.. {
            let key = key(&format!("{writer}/{number}/object"));
            assert_eq!(store.put_if_absent(&key, &content_of(&key).into()).await.unwrap(), Put::Created);
            println!("{key}");
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = store(scratch.path());
    let mut said = 0;
    for round in 0..20_u64 {
        let output = scratch.path().join(".said");
        let mut writer = again::command(&[], TEST, scratch.path().to_str().unwrap());
        let mut writer = writer.stdout(File::create(&output).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        let said_so_far = || -> Vec<String> {
            let text = fs::read_to_string(&output).unwrap();
            let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            lines.filter(|line| line.ends_with("/object")).map(str::to_owned).collect()
        };
        wait_until("the writer writes", PATIENCE, || said_so_far().len() as u64 > round % 4);
        writer.kill().unwrap();
        writer.wait().unwrap();
        for name in said_so_far() {
            let key = key(&name);
            assert_eq!(store.get(&key).await.unwrap(), content_of(&key), "{name} was said to be durable");
            said += 1;
        }
    }
    assert!(said > 20);
    let listed = store.list("", None, false).await.unwrap();
    assert!(listed.entries.len() >= said);
    for entry in listed.entries {
        assert!(store.get(&entry.key).await.unwrap() == content_of(&entry.key), "{} is not whole", entry.key);
    }
}

#[tokio::test]
async fn r01_a_put_that_cannot_be_synced_fails() {
    const TEST: &str = "folder::r01_a_put_that_cannot_be_synced_fails";
    if let Some(folder) = again::role() {
        let put = store(Path::new(&folder)).put_if_absent(&key("a/b"), &b"x".to_vec().into()).await;
        let error = put.expect_err("a put without its sync was called a success");
        assert_eq!(error.kind, ErrorKind::Other, "{error}");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let before = ["fiu-run", "-x", "-c", "enable name=posix/io/sync/fsync,failinfo=5"];
    again::run(&mut again::command(&before, TEST, scratch.path().to_str().unwrap()));
    assert_eq!(tree(scratch.path()), [PathBuf::from(".aside")]);
}

/// How often a process is started under faults that may hit the process itself.
const MOST_RUNS: usize = 20;

#[tokio::test]
async fn r01_under_failing_disk_calls_what_is_said_to_be_there_is_there() {
    const TEST: &str = "folder::r01_under_failing_disk_calls_what_is_said_to_be_there_is_there";
    if let Some(folder) = again::role() {
        let store = store(Path::new(&folder));
        for number in 0..150 {
            let key = key(&format!("{}/object-{number}", number % 7));
            if store.put_if_absent(&key, &content_of(&key).into()).await.is_ok() {
                println!("{key}");
            }
        }
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    create(&config(&root)).unwrap();
    let before = [
        "fiu-run",
        "-x",
        "-c",
        "enable_random name=posix/io/sync/*,probability=0.2,failinfo=5",
        "-c",
        "enable_random name=posix/io/oc/open,probability=0.05,failinfo=5",
    ];
    let store = store(&root);
    let mut said = HashSet::new();
    // The process itself may fail to start under such faults.
    for _ in 0..MOST_RUNS {
        let output = again::command(&before, TEST, root.to_str().unwrap()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        said.extend(printed.lines().filter(|line| line.contains("/object-")).map(str::to_owned));
        for name in &said {
            assert!(store.get(&key(name)).await.unwrap() == content_of(&key(name)), "{name} is not whole");
        }
        if said.len() >= 50 {
            break;
        }
    }
    assert!(said.len() >= 50, "only {} puts went well", said.len());
    for entry in store.list("", None, false).await.unwrap().entries {
        assert!(store.get(&entry.key).await.unwrap() == content_of(&entry.key), "{} is not whole", entry.key);
    }
}

#[tokio::test]
async fn a_folder_that_may_not_be_read_is_denied_and_not_empty() {
    const TEST: &str = "folder::a_folder_that_may_not_be_read_is_denied_and_not_empty";
    if let Some(folder) = again::role() {
        let store = store(Path::new(&folder));
        let kinds = [
            store.get(&key("secret/a")).await.map(|_| ()),
            store.size(&key("secret/a")).await.map(|_| ()),
            store.list("", None, false).await.map(|_| ()),
            store.put_if_absent(&key("secret/b"), &vec![1].into()).await.map(|_| ()),
        ]
        .map(|result| result.unwrap_err().kind);
        assert_eq!(kinds, [ErrorKind::Denied; 4]);
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    assert_eq!(put(&*store(scratch.path()), "secret/a", b"x").await, Put::Created);
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(scratch.path().join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let before = if highwater_tests::is_root() { &as_nobody[..] } else { &[] };
    // The other account must be able to run the program, wherever it was built.
    let copy = scratch.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = again::command_of(before, &copy, TEST, scratch.path().to_str().unwrap());
    again::run(&mut command);
    fs::set_permissions(scratch.path().join("secret"), fs::Permissions::from_mode(0o750)).unwrap();
}
