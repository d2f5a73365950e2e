//! What the answers of an S3 server mean (R6).
//!
//! "Not found" needs the server's own word `NoSuchKey`: a proxy's "404", a bucket that is missing and an endpoint
//! that leads elsewhere are failures.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::error::{Error, ErrorKind};

/// The error for a failed request.
pub(super) fn from_sdk<E>(
    operation: &'static str,
    key: impl Into<String>,
    store: &str,
    error: SdkError<E, HttpResponse>,
) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let (kind, what, hint) = match &error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            let answer = Answer::of(&error);
            let (kind, hint) = judge(operation, &answer);
            (kind, answer.to_string(), hint)
        }
        other => {
            let (kind, hint) = judge_unanswered(other);
            (kind, innermost(other), hint)
        }
    };
    Error::new(kind, operation, key, format!("{store}: {what}. hint: {hint}")).with_source(error)
}

/// What a server said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub status: u16,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
}

impl<'a> Answer<'a> {
    /// The answer in `error`; status 0 when there was none.
    pub(super) fn of<E: ProvideErrorMetadata>(error: &'a SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let service = error.as_service_error();
        Self { status, code: service.and_then(E::code), message: service.and_then(E::message) }
    }
}

impl std::fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        let words = [self.code, self.message].into_iter().flatten();
        words
            .enumerate()
            .try_for_each(|(place, word)| write!(f, "{}{word}", if place == 0 { " " } else { ": " }))
    }
}

const RIGHTS: &str = "allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket; without s3:ListBucket S3 \
                      gives this answer for an object that is not there, too";
const KEYS: &str = "check the access key, its secret and its session token";
const REGION: &str = "check region and endpoint: the bucket lies elsewhere";
const BUCKET: &str = "check the bucket's name, the endpoint and the region; highwater does not make buckets";
const LATER: &str = "the server is busy or failing; this passes or is its operator's to mend";
const ENDPOINT: &str =
    "this is not how an S3 server answers: check endpoint and path-style, and what lies between";

/// What an answer that refuses a request means, and what to do.
fn judge(operation: &str, answer: &Answer<'_>) -> (ErrorKind, &'static str) {
    if let Some(code) = answer.code
        && let Some(verdict) = judge_code(operation, answer.status, code)
    {
        return verdict;
    }
    match answer.status {
        408 | 429 | 500 | 502 | 503 | 504 => (ErrorKind::Unavailable, LATER),
        507 => (ErrorKind::NoSpace, "make room in the store, or raise the quota"),
        401 | 403 => (ErrorKind::Denied, RIGHTS),
        301 | 302 | 307 | 308 => (ErrorKind::Invalid, REGION),
        501 if operation == "put" => (ErrorKind::Unsafe, UNSAFE),
        _ => (ErrorKind::Other, ENDPOINT),
    }
}

const UNSAFE: &str = "this store does not know conditional puts (If-None-Match); use one that does";

fn judge_code(operation: &str, status: u16, code: &str) -> Option<(ErrorKind, &'static str)> {
    use ErrorKind::{Denied, Invalid, NoSpace, NotFound, Unavailable, Unsafe};
    let verdict = match code {
        "NoSuchKey" if status == 404 && !matches!(operation, "put" | "list") => {
            (NotFound, "list what is there, and compare the cluster's name")
        }
        "NoSuchBucket" => (Invalid, BUCKET),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => (Denied, RIGHTS),
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired" => (Denied, KEYS),
        "RequestTimeTooSkewed" | "RequestExpired" => (Denied, "set this machine's clock"),
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect" => (Invalid, REGION),
        "InvalidObjectState" => (Invalid, "the object lies in an archive class: restore it there first"),
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientCapacity" | "InsufficientStorage" => {
            (NoSpace, "make room in the store, or raise the quota")
        }
        "NotImplemented" if operation == "put" => (Unsafe, UNSAFE),
        "SlowDown"
        | "InternalError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "OperationAborted"
        | "TooManyRequests"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "RequestThrottled" => (Unavailable, LATER),
        "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
            (Unavailable, "the data was damaged on its way; look at the network when it happens again")
        }
        code if code.starts_with("KMS") => (Denied, "check kms-key-id and the right to use that key"),
        _ => return None,
    };
    Some(verdict)
}

/// What a request without an answer means.
fn judge_unanswered<E>(error: &SdkError<E, HttpResponse>) -> (ErrorKind, &'static str)
where
    E: std::error::Error + Send + Sync + 'static,
{
    const REACH: &str = "check the network, the endpoint's name and port, and that the server runs";
    if let Some(error) = find::<CredentialsError>(error) {
        return judge_credentials(error);
    }
    match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            return (
                ErrorKind::Invalid,
                "set ca-file to the authority that issued the server's certificate, and \
                                         endpoint to a name that stands in it",
            );
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            return (
                ErrorKind::Invalid,
                "the server does not speak TLS there: check the endpoint's port and scheme",
            );
        }
        _ => {}
    }
    match error {
        SdkError::TimeoutError(_) => (ErrorKind::TimedOut, REACH),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => (ErrorKind::TimedOut, REACH),
        SdkError::DispatchFailure(failure) if failure.is_user() => (ErrorKind::Other, ENDPOINT),
        SdkError::DispatchFailure(_) => (ErrorKind::Unavailable, REACH),
        _ => (ErrorKind::Invalid, "check the store's settings"),
    }
}

fn judge_credentials(error: &CredentialsError) -> (ErrorKind, &'static str) {
    match error {
        CredentialsError::ProviderTimedOut(_) => {
            (ErrorKind::TimedOut, "the source of credentials does not answer: check it, or choose another")
        }
        // A server that gives out credentials failed, perhaps for a moment.
        CredentialsError::ProviderError(_) => {
            (ErrorKind::Unavailable, "the source of credentials failed: check it, or choose another")
        }
        _ => (
            ErrorKind::Denied,
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or access-key-id and secret-access-key-file, or say with \
             credentials where they come from",
        ),
    }
}

/// The first error of type `T` in the chain of causes.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // An I/O error gives the cause of the error inside as its own.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inside.map(|inside| inside as _).or_else(|| error.source());
    }
    None
}

/// The cause at the bottom, which says most.
fn innermost<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// The error for a body that ended early or was cut off.
pub(super) fn cut_off(
    key: &str,
    store: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let what = DisplayErrorContext(&error).to_string();
    Error::new(
        ErrorKind::Unavailable,
        "get",
        key,
        format!("{store}: the answer was cut off: {what}. hint: check the network and the server"),
    )
    .with_source(error)
}
