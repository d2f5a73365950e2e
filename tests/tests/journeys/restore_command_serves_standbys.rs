//! A standby that lives from the archive. It asks again for what it did not get, so what passes must not end it; a hole
//! or damage must (R6).

use std::fs;
use std::time::Duration;

use highwater_tests::{Fault, PATIENCE, Proxy, S3, Site, wait_until};

use crate::commands::{DAMAGED, FAILED, LostCluster, NOT_THERE, fetch, read};

const ALL_ROWS: &str = "select count(*) = 5 from t";

#[test]
fn r06_a_standby_outlives_a_store_that_comes_back() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint()).repository_setting("retry-budget", "200ms");
    let cluster = LostCluster::on(site);
    for prefetch in ["try", "off"] {
        proxy.set(Fault::Down);
        let standby = cluster
            .recovering("standby.signal")
            .setting("recovery_prefetch", prefetch)
            .setting("wal_retrieve_retry_interval", "100ms")
            .setting("log_min_messages", "debug2")
            .start();
        let asked = || standby.log().matches("highwater-restore-cmd: ").count();
        wait_until("the store was asked in vain", PATIENCE, || asked() >= 3);
        proxy.set(Fault::None);
        standby.wait_for(ALL_ROWS, PATIENCE);
        standby.promote();
        assert_eq!(standby.value("select count(*) from t"), "5", "{prefetch}");
    }
}

#[test]
fn r06_a_standby_does_not_outlive_a_hole_or_damage() {
    let cluster = LostCluster::on(Site::on_folder());
    let object = cluster.object(3);
    let good = read(&object);
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    for content in [None, Some(damaged)] {
        fs::remove_file(&object).unwrap();
        if let Some(content) = &content {
            fs::write(&object, content).unwrap();
        }
        match cluster.recovering("standby.signal").try_start() {
            Err(failure) => assert!(failure.log.contains("hint: "), "{failure}"),
            Ok(standby) => {
                wait_until("the standby has ended", PATIENCE, || !standby.is_running());
                assert!(standby.log().contains("hint: "), "{}", standby.log());
            }
        }
        fs::write(&object, &good).unwrap();
    }
    let standby = cluster.recovering("standby.signal").start();
    standby.wait_for(ALL_ROWS, PATIENCE);
}

#[test]
fn r06_what_passes_is_told_a_standby_as_not_there_and_to_others_as_a_failure() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint()).repository_setting("retry-budget", "200ms");
    let cluster = LostCluster::on(site);
    let third = &cluster.segments[2];
    let (primary, standby) = (cluster.fresh_copy(), cluster.fresh_copy());
    fs::write(standby.join("standby.signal"), "").unwrap();
    let ask = |data| fetch(&cluster.site, data, third, "pg_wal/RECOVERYXLOG");

    proxy.set(Fault::Down);
    ask(&primary).run().ends_with(FAILED).fails_clearly().says("hint: ");
    ask(&standby).run().ends_with(NOT_THERE).says("hint: ");

    proxy.set(Fault::Stall);
    let limit = Duration::from_secs(30);
    let hurried = |data| ask(data).args(["--time-limit", "1"]).limit(limit).run().says("--time-limit");
    hurried(&primary).ends_with(FAILED);
    hurried(&standby).ends_with(NOT_THERE);

    // A shutdown ends the command with a signal, which must not look like an answer.
    let running = ask(&primary).start();
    let before = proxy.connections();
    wait_until("it has connected", PATIENCE, || proxy.connections() > before);
    assert_eq!(running.terminate().shell_status(), 143);
    assert!(!primary.join("pg_wal/RECOVERYXLOG").exists());

    proxy.set(Fault::None);
    store.remove(bucket(&cluster.site), &format!("highwater/{}", key(&cluster, third)));
    ask(&primary).run().ends_with(DAMAGED);
    ask(&standby).run().ends_with(DAMAGED);
}

fn bucket(site: &Site) -> &str {
    let rest = site.url().strip_prefix("s3://").expect("the repository is a bucket");
    rest.split('/').next().unwrap()
}

fn key(cluster: &LostCluster, segment: &str) -> String {
    let control = read(&cluster.copy.join("global/pg_control"));
    let system_id = u64::from_le_bytes(control[..8].try_into().unwrap());
    format!("clusters/main/{system_id}/wal/{}/{segment}", &segment[..8])
}

#[test]
fn r06_a_budget_in_the_url_is_bounded_for_a_standby_too() {
    let cluster = LostCluster::on(Site::on_folder());
    let url = format!("{}?retry-budget=5s", cluster.site.url());
    fs::write(cluster.copy.join("standby.signal"), "").unwrap();
    let ask = fetch(&cluster.site, &cluster.copy, &cluster.segments[0], "pg_wal/RECOVERYXLOG");
    ask.env("HIGHWATER_REPOSITORY_URL", url).run().succeeds();
}
