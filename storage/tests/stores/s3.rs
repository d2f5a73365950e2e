//! S3 keeps the contract, on real servers.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{config, key};
use highwater_storage::{
    ErrorKind, Put, Secret, Store, StoreConfig, conformance, open, prove_conditional_put,
};
use highwater_tests::{Fault, PATIENCE, Proxy, S3, wait_until};

async fn check(config: &StoreConfig) {
    conformance::check(&*open(config).unwrap(), &key("conformance")).await.unwrap();
}

#[tokio::test]
async fn moto_conforms() {
    let server = S3::moto();
    check(&config(&server, &server.new_bucket())).await;
}

#[tokio::test]
async fn ceph_conforms_below_a_prefix() {
    let server = S3::ceph();
    let bucket = server.new_bucket();
    let mut config = config(server, &format!("{bucket}/some/prefix"));
    config.checksum = Some(true);
    check(&config).await;
}

#[tokio::test]
async fn moto_conforms_over_tls_with_a_private_authority() {
    let server = S3::moto_with_tls();
    let mut config = config(&server, &server.new_bucket());
    config.ca_file = Some(server.ca_certificate());
    check(&config).await;
}

#[tokio::test]
async fn r02_moto_and_ceph_keep_their_conditional_puts() {
    let moto = S3::moto();
    for server in [&moto, S3::ceph()] {
        let store = open(&config(server, &server.new_bucket())).unwrap();
        prove_conditional_put(&*store, "trials/").await.unwrap();
        let left = store.list("", None, false).await.unwrap();
        assert_eq!(left.entries, [], "the trial's objects are left behind");
    }
}

#[tokio::test]
async fn a_server_whose_authority_is_not_trusted_is_refused_at_once() {
    let server = S3::moto_with_tls();
    let mut config = config(&server, &server.new_bucket());
    config.retry_budget = None;
    let error = open(&config).unwrap().get(&key("a")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("ca-file"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_behind_an_https_endpoint_is_said_to_be_that() {
    let server = S3::moto();
    let mut config = config(&server, "bucket");
    config.retry_budget = None;
    config.endpoint = Some(format!("https://{}", server.address()));
    let error = open(&config).unwrap().get(&key("a")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn r06_a_missing_bucket_is_not_a_missing_object() {
    let moto = S3::moto();
    for server in [&moto, S3::ceph()] {
        let store = open(&config(server, "no-such-bucket")).unwrap();
        let errors = [
            store.get(&key("a")).await.map(|_| ()),
            store.get_range(&key("a"), 0..1).await.map(|_| ()),
            store.size(&key("a")).await.map(|_| ()),
            store.list("", None, false).await.map(|_| ()),
            store.put_if_absent(&key("a"), &b"x".to_vec().into()).await.map(|_| ()),
            store.delete(&key("a")).await,
        ]
        .map(Result::unwrap_err);
        for error in errors {
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains("NoSuchBucket"), "{error}");
        }
    }
}

#[tokio::test]
async fn wrong_keys_are_denied_and_r21_not_printed() {
    let server = S3::ceph();
    let mut config = config(server, &server.new_bucket());
    config.secret_access_key = Some(Secret::new("0123wrongsecret4567"));
    let store = open(&config).unwrap();
    let errors = [
        store.get(&key("a")).await.map(|_| ()),
        store.size(&key("a")).await.map(|_| ()),
        store.put_if_absent(&key("a"), &b"x".to_vec().into()).await.map(|_| ()),
        store.list("", None, false).await.map(|_| ()),
        store.delete(&key("a")).await,
    ]
    .map(Result::unwrap_err);
    for error in errors {
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        let printed = format!("{error} {error:?} {store:?} {config:?}");
        assert!(!printed.contains("wrongsecret"), "{printed}");
        assert!(error.to_string().contains("check the access key"), "{error}");
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = S3::ceph();
    let proxy = Proxy::to(server.address());
    let mut config = config(server, &server.new_bucket());
    config.endpoint = Some(proxy.endpoint());
    let store = open(&config).unwrap();
    for number in 0..20 {
        let key = key(&format!("k{number}"));
        assert_eq!(store.put_if_absent(&key, &vec![1; 1000].into()).await.unwrap(), Put::Created);
        assert_eq!(store.get(&key).await.unwrap().len(), 1000);
        assert!(store.get(&key.join("absent").unwrap()).await.unwrap_err().is_not_found());
    }
    assert_eq!(proxy.connections(), 1);
}

/// A store behind a proxy, with time for some tries.
fn behind(proxy: &Proxy, server: &S3) -> (Arc<dyn Store>, String) {
    let bucket = server.new_bucket();
    let mut config = config(server, &bucket);
    config.endpoint = Some(proxy.endpoint());
    config.retry_budget = Some(PATIENCE);
    (open(&config).unwrap(), bucket)
}

#[tokio::test]
async fn r03_a_put_whose_answer_was_lost_is_found_to_exist() {
    let server = S3::ceph();
    let proxy = Proxy::to(server.address());
    let (store, bucket) = behind(&proxy, server);
    proxy.set(Fault::ResetAfterAnswer(0));
    let put =
        tokio::spawn(async move { store.put_if_absent(&key("lost"), &b"content".to_vec().into()).await });
    let waiting = tokio::task::spawn_blocking(move || {
        wait_until("the object is there", PATIENCE, || server.object(&bucket, "lost").is_some());
        // The answer comes after the object: it is lost for sure when the next try has begun.
        wait_until("another try", PATIENCE, || proxy.connections() > 1);
        proxy.set(Fault::None);
        proxy
    });
    let _proxy = waiting.await.unwrap();
    assert_eq!(put.await.unwrap().unwrap(), Put::Exists);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_passing_and_never_a_short_object() {
    let server = S3::ceph();
    let proxy = Proxy::to(server.address());
    let mut config = config(server, &server.new_bucket());
    config.endpoint = Some(proxy.endpoint());
    let store = open(&config).unwrap();
    let body = vec![5; 1_000_000];
    assert_eq!(store.put_if_absent(&key("long"), &body.clone().into()).await.unwrap(), Put::Created);
    for fault in [Fault::CloseAfterAnswer(100_000), Fault::ResetAfterAnswer(100_000)] {
        proxy.set(fault);
        for found in [store.get(&key("long")).await, store.get_range(&key("long"), 10..900_000).await] {
            let error = found.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        }
        proxy.set(Fault::None);
        assert_eq!(store.get(&key("long")).await.unwrap(), body);
    }
}

#[tokio::test]
async fn r06_a_store_that_cannot_be_reached_or_does_not_answer_is_passing() {
    let server = S3::ceph();
    let proxy = Proxy::to(server.address());
    let mut config = config(server, &server.new_bucket());
    config.endpoint = Some(proxy.endpoint());
    config.request_timeout = Some(Duration::from_millis(300));
    let store = open(&config).unwrap();
    for (fault, kind) in [(Fault::Stall, ErrorKind::TimedOut), (Fault::Down, ErrorKind::Unavailable)] {
        proxy.set(fault);
        for error in [
            store.size(&key("a")).await.map(|_| ()).unwrap_err(),
            store.list("", None, false).await.map(|_| ()).unwrap_err(),
            store.put_if_absent(&key("a"), &b"x".to_vec().into()).await.map(|_| ()).unwrap_err(),
            store.get_range(&key("a"), 0..10).await.map(|_| ()).unwrap_err(),
            store.delete(&key("a")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, kind, "{fault:?}: {error}");
            assert!(error.is_passing() && error.to_string().contains("hint: "), "{error}");
        }
    }
}

#[tokio::test]
async fn the_host_style_names_the_bucket_in_the_host() {
    let server = S3::moto();
    let bucket = server.new_bucket();
    let mut config = config(&server, &bucket);
    // Names below localhost lead to the loopback address (RFC 6761); moto takes the first label as the bucket.
    config.endpoint = Some(format!("http://localhost:{}", server.address().port()));
    config.path_style = Some(false);
    let store = open(&config).unwrap();
    match store.put_if_absent(&key("a"), &b"x".to_vec().into()).await {
        Ok(put) => {
            assert_eq!(put, Put::Created);
            assert_eq!(server.object(&bucket, "a").unwrap(), b"x");
        }
        // A machine whose resolver does not know names below localhost.
        Err(error) => {
            assert!(error.to_string().contains("resolve") || error.to_string().contains("lookup"), "{error}")
        }
    }
}
