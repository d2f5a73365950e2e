//! The URL of a store: where it is, and settings in its query.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::StoreConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;

/// The URL of a store. Printing shows neither its query nor what stands before an `@`: either may be a secret that
/// doesn't belong there (R21).
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The whole URL as it was given.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is that of a folder.
    pub fn is_folder(&self) -> bool {
        self.0.starts_with("file:")
    }
}

impl<T: Into<String>> From<T> for StoreUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.0.split('?').next().unwrap_or_default();
        let Some((secret, rest)) = location.rsplit_once('@') else { return f.write_str(location) };
        let scheme = secret.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
        write!(f, "{scheme}…@{rest}")
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// What a URL says: which backend, with the settings of its query taken over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// An absolute path.
    Folder(PathBuf),
    /// A bucket and a prefix that is empty or ends in `/`.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// What stands before every key.
        prefix: String,
    },
}

/// Parses the URL; gives the settings with those of its query.
pub(crate) fn parse(config: &StoreConfig) -> Result<(Location, StoreConfig)> {
    let (location, query) = config.url.0.split_once('?').unwrap_or((&config.url.0, ""));
    let bad = |message: String| Error::new(ErrorKind::Invalid, "open", config.url.to_string(), message);

    let mut settings = config.clone();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode(value).ok_or_else(|| {
            bad(format!("setting {name}: bad percent-encoding. hint: write a space as %20"))
        })?;
        settings.set(name, &value).map_err(|message| bad(format!("setting {name}. hint: {message}")))?;
    }

    let Some((scheme, rest)) = location.split_once("://") else {
        return Err(bad("this is no URL. hint: use file:///path or s3://bucket/prefix".to_owned()));
    };
    let rest = percent_decode(rest)
        .ok_or_else(|| bad("bad percent-encoding. hint: write a space as %20".to_owned()))?;
    let location = match scheme {
        "file" => folder(&rest),
        "s3" => bucket(&rest),
        _ => Err("this kind of store is not known. hint: use file:///path or s3://bucket/prefix".to_owned()),
    }
    .map_err(bad)?;
    Ok((location, settings))
}

fn folder(path: &str) -> std::result::Result<Location, String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err("the path must be absolute. hint: write file:///path, with three slashes".to_owned());
    }
    Ok(Location::Folder(path.into()))
}

fn bucket(rest: &str) -> std::result::Result<Location, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if rest.contains('@') {
        return Err("credentials do not belong into a URL. hint: set access-key-id and secret-access-key in the file \
                    or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
            .to_owned());
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if bucket.is_empty() || !bucket.chars().all(good) {
        return Err(
            "the bucket's name is missing or has characters no bucket has. hint: write s3://bucket/prefix"
                .to_owned(),
        );
    }
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() && prefix.parse::<Key>().is_err() {
        return Err("the prefix has parts that are empty or begin with a dot, or unusual characters. hint: use letters, \
                    digits and . _ + = - :"
            .to_owned());
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok(Location::Bucket { bucket: bucket.to_owned(), prefix })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (hex, tail) = rest.split_at_checked(2)?;
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}
