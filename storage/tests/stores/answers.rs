//! Answers that a healthy S3 server does not give, or seldom: what they are taken for.

use std::time::Duration;

use highwater_storage::{ErrorKind, Put, Result, open};
use highwater_tests::PATIENCE;

use crate::common::{Answers, Request, Response, answer, key, refusal, with_keys};

const PAGE: &str =
    "<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Sign in</body></html>";

/// What each call of a store makes of one and the same answer.
async fn kinds(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> [Option<ErrorKind>; 6] {
    fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
        let error = result.err()?;
        assert!(error.to_string().contains("hint: "), "{error}");
        Some(error.kind)
    }
    let server = Answers::serve(answer);
    let store = open(&with_keys("s3://bucket/prefix", &server.endpoint())).unwrap();
    let object = key("object");
    [
        kind(store.get(&object).await),
        kind(store.get_range(&object, 0..10).await),
        kind(store.size(&object).await),
        kind(store.list("", None, false).await),
        kind(store.put_if_absent(&object, &b"body".to_vec().into()).await),
        kind(store.delete(&object).await),
    ]
}

#[tokio::test]
async fn r06_only_no_such_key_means_not_found() {
    use ErrorKind::{Denied, Invalid, NoSpace, NotFound, Other, Unavailable, Unsafe};
    let all = |kind: ErrorKind| [Some(kind); 6];
    let but_put = |kind: ErrorKind, put: ErrorKind| {
        let mut kinds = all(kind);
        kinds[4] = Some(put);
        kinds
    };
    let cases = [
        // A listing or a put cannot lack a key, and to delete what isn't there is a success.
        (
            refusal(404, "NoSuchKey"),
            [Some(NotFound), Some(NotFound), Some(NotFound), Some(Other), Some(Other), None],
        ),
        (refusal(404, "NoSuchBucket"), all(Invalid)),
        (refusal(404, "NoSuchUpload"), all(Other)),
        (refusal(404, "NotFound"), all(Other)),
        (answer(404, PAGE), all(Other)),
        (answer(404, ""), all(Other)),
        (answer(404, "{\"code\": \"NoSuchKey\"}"), all(Other)),
        (refusal(400, "NoSuchKey"), all(Other)),
        (answer(410, PAGE), all(Other)),
        (refusal(403, "AccessDenied"), all(Denied)),
        (answer(403, ""), all(Denied)),
        (answer(401, PAGE), all(Denied)),
        (refusal(403, "SignatureDoesNotMatch"), all(Denied)),
        (refusal(400, "ExpiredToken"), all(Denied)),
        (refusal(403, "RequestTimeTooSkewed"), all(Denied)),
        (refusal(301, "PermanentRedirect"), all(Invalid)),
        (answer(307, ""), all(Invalid)),
        (refusal(400, "AuthorizationHeaderMalformed"), all(Invalid)),
        (refusal(403, "InvalidObjectState"), all(Invalid)),
        (refusal(403, "QuotaExceeded"), all(NoSpace)),
        (answer(507, ""), all(NoSpace)),
        (refusal(503, "SlowDown"), all(Unavailable)),
        (refusal(500, "InternalError"), all(Unavailable)),
        (refusal(400, "RequestTimeout"), all(Unavailable)),
        (answer(502, PAGE), all(Unavailable)),
        (answer(503, ""), all(Unavailable)),
        (answer(504, PAGE), all(Unavailable)),
        (answer(429, ""), all(Unavailable)),
        (refusal(501, "NotImplemented"), but_put(Other, Unsafe)),
    ];
    for (answer, expected) in cases {
        let shown = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
        assert_eq!(kinds(move |_| answer.clone()).await, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_proxy_that_says_200_to_everything_has_stored_nothing_and_lists_nothing() {
    for page in [PAGE, "", "<ListBucketResult></ListBucketResult>"] {
        let [_, range, _, list, put, _] = kinds(move |_| answer(200, page)).await;
        assert_eq!(put, Some(ErrorKind::Other), "{page}");
        assert_eq!(list, Some(ErrorKind::Other), "{page}");
        assert_eq!(range, Some(ErrorKind::Other), "{page}");
    }
}

#[tokio::test]
async fn r03_after_exists_or_conflict_what_is_there_decides() {
    let tried = async |put_status: u16, found: Response| {
        let server = Answers::serve(move |request| match request.method.as_str() {
            "PUT" => refusal(put_status, "SomeConflict"),
            _ => found.clone(),
        });
        let store = open(&with_keys("s3://bucket", &server.endpoint())).unwrap();
        store.put_if_absent(&key("a"), &b"x".to_vec().into()).await.map_err(|error| error.kind)
    };
    for status in [409, 412] {
        assert_eq!(tried(status, answer(200, "body")).await, Ok(Put::Exists));
        assert_eq!(tried(status, refusal(404, "NoSuchKey")).await, Err(ErrorKind::Unavailable));
        assert_eq!(tried(status, refusal(404, "NoSuchBucket")).await, Err(ErrorKind::Invalid));
        assert_eq!(tried(status, answer(403, "")).await, Err(ErrorKind::Denied));
        assert_eq!(tried(status, answer(500, "")).await, Err(ErrorKind::Unavailable));
    }
}

#[tokio::test]
async fn without_the_right_to_list_the_hint_names_it() {
    let server = Answers::serve(|_| refusal(403, "AccessDenied"));
    let store = open(&with_keys("s3://bucket", &server.endpoint())).unwrap();
    for error in [
        store.get(&key("a")).await.unwrap_err(),
        store.size(&key("a")).await.map(|_| bytes::Bytes::new()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("s3:ListBucket"), "{error}");
    }
}

#[tokio::test]
async fn a_range_that_was_not_given_is_not_taken() {
    let part = |first: u64, last: u64, body: &'static str| {
        answer(206, body).header("content-range", format!("bytes {first}-{last}/100"))
    };
    let asked = async |response: Response| {
        let server = Answers::serve(move |_| response.clone());
        let store = open(&with_keys("s3://bucket", &server.endpoint())).unwrap();
        store.get_range(&key("a"), 2..5).await.map_err(|error| error.kind)
    };
    assert_eq!(asked(part(2, 4, "234")).await.unwrap(), "234");
    // The object may end inside the range.
    assert_eq!(asked(answer(206, "23").header("content-range", "bytes 2-3/4")).await.unwrap(), "23");
    let wrong = [
        answer(200, "0123456789"),
        part(0, 2, "012"),
        part(2, 5, "2345"),
        part(2, 4, "2345"),
        part(4, 2, "234"),
        answer(206, "234"),
        answer(206, "234").header("content-range", "bytes 2-4/*"),
    ];
    for response in wrong {
        let shown = format!("{response:?}");
        assert_eq!(asked(response).await, Err(ErrorKind::Other), "{shown}");
    }
    assert_eq!(asked(part(2, 4, "23")).await, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let server = Answers::serve(|_| Response {
        stalls: true,
        ..answer(200, "the beginning").header("content-length", 1_000_000)
    });
    let mut config = with_keys("s3://bucket", &server.endpoint());
    config.request_timeout = Some(Duration::from_secs(1));
    let store = open(&config).unwrap();
    let error = tokio::time::timeout(PATIENCE, store.get(&key("a"))).await.unwrap().unwrap_err();
    assert!(error.is_passing(), "{error}");
}

#[tokio::test]
async fn an_object_larger_than_any_of_ours_is_refused_before_it_is_read() {
    let server = Answers::serve(|_| Response {
        stalls: true,
        ..answer(200, "the beginning").header("content-length", (1_u64 << 30) + 1)
    });
    let store = open(&with_keys("s3://bucket", &server.endpoint())).unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_listing_that_never_ends_or_holds_foreign_names_is_survived() {
    let page = |truncated: bool, names: &[&str]| {
        let contents: String = names
            .iter()
            .map(|name| format!("<Contents><Key>{name}</Key><Size>1</Size></Contents>"))
            .collect();
        answer(
            200,
            format!("<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{contents}</ListBucketResult>"),
        )
    };
    let list = async |response: Response, after: Option<&str>| {
        let server = Answers::serve(move |_| response.clone());
        let store = open(&with_keys("s3://bucket/p", &server.endpoint())).unwrap();
        store.list("", after, false).await.map_err(|error| error.kind)
    };
    let found = list(page(true, &["p/.hidden", "p/a", "p/b b", "p/c//d", "p/z!"]), None).await.unwrap();
    let names: Vec<String> = found.entries.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!((names, found.next.as_deref()), (vec!["a".to_owned()], Some("z!")));
    assert_eq!(list(page(true, &[]), None).await, Err(ErrorKind::Other));
    assert_eq!(list(page(true, &["p/a"]), Some("a")).await, Err(ErrorKind::Other));
}

#[tokio::test]
async fn a_put_says_all_that_was_set_and_is_signed_with_its_hash() {
    let server = Answers::serve(|_| answer(200, "").header("etag", "\"0\""));
    let mut config =
        with_keys("s3://bucket/some/prefix?storage-class=STANDARD_IA&kms-key-id=k", &server.endpoint());
    config.server_side_encryption = Some("aws:kms".into());
    let store = open(&config).unwrap();
    let body = [&b"he"[..], b"l", b"lo"].into_iter().collect();
    assert_eq!(store.put_if_absent(&key("a+b=c:d"), &body).await.unwrap(), Put::Created);
    let asked = server.asked();
    let [request] = asked.as_slice() else { panic!("one request, not {}", asked.len()) };
    assert_eq!((request.method.as_str(), request.body.as_slice()), ("PUT", &b"hello"[..]));
    assert!(request.target.starts_with("/bucket/some/prefix/a%2Bb%3Dc%3Ad"), "{}", request.target);
    let expected = [
        ("if-none-match", "*"),
        ("content-length", "5"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "k"),
        // `printf hello | sha256sum`
        ("x-amz-content-sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let trailers = ["x-amz-trailer", "content-encoding", "transfer-encoding", "x-amz-checksum-crc32"];
    // Stores other than Amazon's refuse these.
    for name in trailers.iter().chain(&["x-amz-checksum-sha256"]) {
        assert_eq!(request.header(name), None, "{name}");
    }

    config.checksum = Some(true);
    let store = open(&config).unwrap();
    assert_eq!(store.put_if_absent(&key("b"), &body).await.unwrap(), Put::Created);
    let request = server.asked().pop().unwrap();
    // `printf hello | openssl dgst -sha256 -binary | base64`
    assert_eq!(request.header("x-amz-checksum-sha256"), Some("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="));
    assert_eq!(request.body, b"hello");
    for name in trailers {
        assert_eq!(request.header(name), None, "{name}");
    }
}
