//! URLs and settings: what they mean, what is refused, and that no secret is ever printed.

use std::time::Duration;

use highwater_storage::{Credentials, ErrorKind, Secret, StoreConfig, open};

fn parse(text: &str) -> Result<StoreConfig, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn every_setting_can_stand_in_the_file() {
    let text = r#"
        url = "s3://bucket/prefix"
        request-timeout = "500ms"
        retry-budget = "2 min"
        region = "eu-central-1"
        endpoint = "https://127.0.0.1:9000"
        path-style = true
        credentials = "static"
        access-key-id = "AK"
        secret-access-key = "SK"
        secret-access-key-file = "/etc/highwater/secret"
        session-token = "ST"
        profile = "backup"
        storage-class = "STANDARD_IA"
        server-side-encryption = "aws:kms"
        kms-key-id = "key"
        checksum = true
        ca-file = "/etc/ssl/own.pem"
    "#;
    let config = parse(text).unwrap();
    assert_eq!(config.request_timeout, Some(Duration::from_millis(500)));
    assert_eq!(config.retry_budget, Some(Duration::from_secs(120)));
    assert_eq!(config.credentials, Some(Credentials::Static));
    assert_eq!(config.secret_access_key, Some(Secret::new("SK")));
    let named: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim()).collect();
    assert_eq!(named, StoreConfig::SETTINGS);
}

#[test]
fn an_unknown_setting_and_a_bad_value_are_refused() {
    for line in [
        "bucket = \"b\"",
        "path-style = \"yes\"",
        "request-timeout = 20",
        "request-timeout = \"20\"",
        "request-timeout = \"-1s\"",
        "request-timeout = \"1 week\"",
        "retry-budget = \"99999999999h\"",
        "credentials = \"guess\"",
    ] {
        assert!(parse(&format!("url = \"s3://b\"\n{line}")).is_err(), "{line}");
    }
    assert!(parse("region = \"r\"").is_err(), "a URL is needed");
}

#[test]
fn urls_that_are_good() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().display();
    for (url, shown) in [
        (format!("file://{folder}/a%20b"), format!("file://{folder}/a b")),
        (format!("file://{folder}?retry-budget=0&request-timeout=5s"), format!("file://{folder}")),
        ("s3://bucket?endpoint=http://127.0.0.1:1".to_owned(), "s3://bucket".to_owned()),
        ("s3://bucket/?region=r&endpoint=http://h".to_owned(), "s3://bucket".to_owned()),
        (
            "s3://bucket/a/b/?region=r&endpoint=http%3A%2F%2Fh&path-style=false".to_owned(),
            "s3://bucket/a/b".to_owned(),
        ),
    ] {
        let store = open(&StoreConfig::from_url(&url)).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(store.url(), shown);
    }
}

#[test]
fn urls_that_are_refused_say_what_to_write() {
    for url in [
        "",
        "/var/lib/highwater",
        "file:/var/lib/highwater",
        "file://relative/path",
        "file:///x%",
        "file:///x%zz",
        "file:///x%00",
        "file:///x?retries=3",
        "http://host/path",
        "s3://",
        "s3:///prefix",
        "s3://bucket/../x?region=r",
        "s3://bucket//x?region=r",
        "s3://buc ket?region=r",
        "s3://bucket?region=r&region=s",
        "s3://bucket?region=r&path-style=maybe",
        "s3://bucket?region=r&credentials=guess",
        "s3://bucket?region=r&endpoint=h:9000",
    ] {
        let error = open(&StoreConfig::from_url(url)).expect_err(url);
        assert_eq!(error.kind, ErrorKind::Invalid, "{url}");
        assert!(error.to_string().contains("hint: "), "{url}: {error}");
    }
    let mut twice = StoreConfig::from_url("s3://bucket?region=r");
    twice.region = Some("r".into());
    assert!(open(&twice).unwrap_err().to_string().contains("set twice"));
}

#[test]
fn r21_no_secret_is_printed_and_none_is_taken_from_a_url() {
    let urls = [
        "s3://AKID:TOPSECRET@bucket/prefix?region=r",
        "s3://bucket?region=r&secret-access-key=TOPSECRET",
        "s3://bucket?region=r&session-token=TOPSECRET",
        "s3://bucket?region=r&endpoint=https://AKID:TOPSECRET@host",
        "s3://bucket?secret_access_key=TOPSECRET",
        "file://user:TOPSECRET@host/path",
        "TOPSECRET@bucket",
    ];
    for url in urls {
        let config = StoreConfig::from_url(url);
        let error = open(&config).expect_err(url);
        let printed = format!("{error} {error:?} {config:?} {}", config.url);
        assert!(!printed.contains("TOPSECRET"), "{url}: {printed}");
    }
    let mut config = StoreConfig::from_url("s3://bucket?region=r&endpoint=http://127.0.0.1:1");
    config.access_key_id = Some("AKID".into());
    config.secret_access_key = Some(Secret::new("TOPSECRET"));
    config.session_token = Some(Secret::new("TOPSECRET"));
    let store = open(&config).unwrap();
    let printed = format!("{config:?} {config:#?} {store:?} {store:#?} {}", store.url());
    assert!(!printed.contains("TOPSECRET"), "{printed}");
}
