//! Every place that credentials may come from, on a server that checks signatures.

use std::fs;
use std::time::{Duration, Instant};

use highwater_storage::{Credentials, ErrorKind, Put, StoreConfig, open};
use highwater_tests::S3;

use crate::again;
use crate::common::{Answers, Request, Response, answer, key};

/// Everything in the environment that the sources of credentials look at.
const VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL_STS",
];

/// Puts an object through `url` in another process that has nothing in its environment but `variables`.
fn put_with(url: &str, variables: &[(&str, &str)]) {
    const TEST: &str = "credentials::put_in_another_environment";
    let mut command = again::command(&[], TEST, url);
    VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    // Not the home of whoever runs the tests.
    command.env("HOME", "/nonexistent").envs(variables.iter().copied());
    again::run(&mut command);
}

/// The other process; by itself it puts with keys from the environment of a process that has some.
#[tokio::test]
async fn put_in_another_environment() {
    let Some(url) = again::role() else {
        let server = S3::ceph();
        return put_with(&url(server, "credentials=environment"), &server.environment());
    };
    let store = open(&StoreConfig::from_url(url)).unwrap();
    assert_eq!(store.put_if_absent(&key("a"), &b"x".to_vec().into()).await.unwrap(), Put::Created);
    assert_eq!(store.get(&key("a")).await.unwrap(), "x");
}

fn url(server: &S3, setting: &str) -> String {
    format!("s3://{}?endpoint={}&retry-budget=0&{setting}", server.new_bucket(), server.endpoint())
}

fn json(server: &S3) -> String {
    format!(
        r#"{{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "{}", "SecretAccessKey": "{}", "Token": "",
            "Expiration": "2199-01-01T00:00:00Z", "LastUpdated": "2020-01-01T00:00:00Z"}}"#,
        server.access_key(),
        server.secret_key()
    )
}

#[tokio::test]
async fn keys_in_the_environment_are_found_without_being_asked_for() {
    let server = S3::ceph();
    put_with(&url(server, ""), &server.environment());
}

#[tokio::test]
async fn a_secret_is_read_from_its_file() {
    let server = S3::ceph();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("secret");
    fs::write(&file, format!("{}\n", server.secret_key())).unwrap();
    let setting = format!("access-key-id={}&secret-access-key-file={}", server.access_key(), file.display());
    put_with(&url(server, &setting), &[]);
    fs::write(&file, "\n").unwrap();
    let error = open(&StoreConfig::from_url(url(server, &setting))).unwrap_err();
    assert!(error.kind == ErrorKind::Invalid && error.to_string().contains("is empty"), "{error}");
    fs::remove_file(&file).unwrap();
    assert_eq!(open(&StoreConfig::from_url(url(server, &setting))).unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn profiles_are_read() {
    let server = S3::ceph();
    let scratch = tempfile::tempdir().unwrap();
    let keys =
        format!("aws_access_key_id={}\naws_secret_access_key={}\n", server.access_key(), server.secret_key());
    let file = scratch.path().join("credentials");
    fs::write(&file, format!("[default]\n{keys}[backup]\n{keys}")).unwrap();
    let program = scratch.path().join("program.json");
    fs::write(&program, json(server).replacen('{', "{\"Version\": 1, ", 1).replace("\"Token\": \"\",", ""))
        .unwrap();
    let settings = scratch.path().join("config");
    fs::write(&settings, format!("[profile outside]\ncredential_process = cat {}\n", program.display()))
        .unwrap();
    let files = [
        ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
        ("AWS_CONFIG_FILE", settings.to_str().unwrap()),
    ];
    for setting in ["", "credentials=profile", "profile=backup", "profile=outside"] {
        put_with(&url(server, setting), &files);
    }
}

#[tokio::test]
async fn the_metadata_of_an_instance_or_container_is_asked_when_that_is_said() {
    let server = S3::ceph();
    let keys = json(server);
    let metadata = Answers::serve(move |request: &Request| -> Response {
        match request.target.split("/iam/").nth(1) {
            None if request.target.starts_with("/latest/api/token") => {
                answer(200, "token").header("x-aws-ec2-metadata-token-ttl-seconds", 21600)
            }
            Some(path) if path.trim_end_matches('/').ends_with("role") => answer(200, keys.clone()),
            Some(_) => answer(200, "role"),
            None => answer(200, keys.clone()).header("content-type", "application/json"),
        }
    });
    let proxy = ("HTTP_PROXY", "http://127.0.0.1:1");
    let no_proxy = ("NO_PROXY", "127.0.0.1");
    let instance = metadata.endpoint();
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.as_str()), proxy, no_proxy];
    put_with(&url(server, "credentials=instance"), &variables);
    let container = format!("{}/keys", metadata.endpoint());
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str()), proxy, no_proxy];
    put_with(&url(server, "credentials=container"), &variables);
}

#[tokio::test]
async fn a_web_identity_is_changed_for_keys() {
    let server = S3::ceph();
    let scratch = tempfile::tempdir().unwrap();
    let token = scratch.path().join("token");
    fs::write(&token, "who I am").unwrap();
    let keys = format!(
        "<AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken></SessionToken>",
        server.access_key(),
        server.secret_key()
    );
    let sts = Answers::serve(move |request| {
        assert!(String::from_utf8_lossy(&request.body).contains("WebIdentityToken=who%20I%20am"));
        answer(
            200,
            format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><Credentials>{keys}<Expiration>2199-01-01T00:00:00Z</Expiration>\
                 </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            ),
        )
    });
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup"),
        ("AWS_ENDPOINT_URL_STS", &sts.endpoint()),
    ];
    put_with(&url(server, ""), &variables);
    assert_eq!(sts.asked().len(), 1);
}

/// What this machine's environment lacks is said at once: no metadata server is asked by itself.
#[tokio::test]
async fn without_any_credentials_the_error_says_how_to_give_some() {
    const TEST: &str = "credentials::without_any_credentials_the_error_says_how_to_give_some";
    if let Some(url) = again::role() {
        let begun = Instant::now();
        let mut config = StoreConfig::from_url(url);
        let error = open(&config).unwrap().get(&key("a")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        config.credentials = Some(Credentials::Environment);
        assert_eq!(open(&config).unwrap_err().kind, ErrorKind::Invalid);
        return;
    }
    let metadata = Answers::serve(|_| answer(404, ""));
    let store = Answers::serve(|_| answer(500, ""));
    let mut command = again::command(&[], TEST, &format!("s3://bucket?endpoint={}", store.endpoint()));
    VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.env("HOME", "/nonexistent").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint());
    again::run(&mut command);
    assert_eq!((metadata.asked().len(), store.asked().len()), (0, 0));
}
