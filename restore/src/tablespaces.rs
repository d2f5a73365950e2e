//! Where the tablespaces of a restored cluster lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use highwater_repository::manifest::Tablespace;

use crate::{Error, Result};

const OPTION: &str = "--tablespace";

/// A tablespace that goes to another place than it lay at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceMapping {
    /// The folder it lay in when the backup was taken.
    pub from: PathBuf,
    /// The folder it shall lie in.
    pub to: PathBuf,
}

impl FromStr for TablespaceMapping {
    type Err = Error;

    /// Reads `OLD=NEW`; a `=` within a path is written `\=`, as for `pg_basebackup -T`.
    fn from_str(text: &str) -> Result<TablespaceMapping> {
        let mut paths = vec![String::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let part = paths.last_mut().into_iter();
            match character {
                '\\' if characters.next_if_eq(&'=').is_some() => part.for_each(|path| path.push('=')),
                '=' => paths.push(String::new()),
                other => part.for_each(|path| path.push(other)),
            }
        }
        match paths.as_slice() {
            [from, to] if from.starts_with('/') && to.starts_with('/') => {
                Ok(TablespaceMapping { from: from.into(), to: to.into() })
            }
            _ => Err(Error::Option {
                option: OPTION,
                reason: format!("\"{text}\" is not OLD=NEW with two absolute paths"),
                hint:
                    "write the folder it lay in, =, and the folder it shall lie in; a = within a path as \\="
                        .to_owned(),
            }),
        }
    }
}

/// Where each tablespace outside the data directory goes, by OID. One whose location is relative lies in the data directory
/// (`allow_in_place_tablespaces`) and goes with it.
///
/// # Errors
/// [`Error::Option`] where a mapping names no tablespace, or names one twice.
pub(crate) fn places(
    tablespaces: &[Tablespace],
    mappings: &[TablespaceMapping],
) -> Result<BTreeMap<u32, PathBuf>> {
    let outside = || tablespaces.iter().filter(|tablespace| tablespace.location.starts_with('/'));
    for (index, mapping) in mappings.iter().enumerate() {
        let known = outside().any(|tablespace| Path::new(&tablespace.location) == mapping.from);
        let reason = match () {
            () if !known => format!("the backup has no tablespace in {}", mapping.from.display()),
            () if mappings[..index].iter().any(|other| other.from == mapping.from) => {
                format!("{} is mapped twice", mapping.from.display())
            }
            () => continue,
        };
        let all: Vec<&str> = outside().map(|tablespace| tablespace.location.as_str()).collect();
        let hint = match all.is_empty() {
            true => "leave the option away: the backup has no tablespaces".to_owned(),
            false => format!("its tablespaces lay in {}", all.join(", ")),
        };
        return Err(Error::Option { option: OPTION, reason, hint });
    }
    let place = |tablespace: &Tablespace| {
        let location = Path::new(&tablespace.location);
        let mapped = mappings.iter().find(|mapping| mapping.from == location);
        (tablespace.oid, mapped.map_or(location, |mapping| &mapping.to).to_owned())
    };
    Ok(outside().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tablespace(oid: u32, location: &str) -> Tablespace {
        Tablespace { oid, location: location.to_owned() }
    }

    #[test]
    fn mappings_are_read() {
        for (text, from, to) in [
            ("/a=/b", "/a", "/b"),
            (r"/a\=b=/c\=", "/a=b", "/c="),
            (r"/a\b=/c", r"/a\b", "/c"),
            ("/ä b=/ö", "/ä b", "/ö"),
        ] {
            assert_eq!(
                text.parse::<TablespaceMapping>().unwrap(),
                TablespaceMapping { from: from.into(), to: to.into() }
            );
        }
        for text in ["", "=", "/a", "/a=", "=/b", "a=/b", "/a=b", "/a=/b=/c", r"/a\=/b"] {
            let error = text.parse::<TablespaceMapping>().unwrap_err().to_string();
            assert!(error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn tablespaces_keep_their_place_unless_they_are_mapped() {
        let all = [tablespace(1, "/a"), tablespace(2, "/b"), tablespace(3, "pg_tblspc/3")];
        let mapping = "/b=/c".parse::<TablespaceMapping>().unwrap();
        let places = places(&all, std::slice::from_ref(&mapping)).unwrap();
        assert_eq!(places, BTreeMap::from([(1, "/a".into()), (2, "/c".into())]));
        let unknown = "/x=/c".parse().unwrap();
        let error = super::places(&all, &[unknown]).unwrap_err().to_string();
        assert!(error.contains("/a, /b"), "{error}");
        assert!(super::places(&all, &[mapping.clone(), mapping]).is_err());
    }
}
