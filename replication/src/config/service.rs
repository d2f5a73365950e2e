//! Connection service files: named groups of settings.
//!
//! <https://www.postgresql.org/docs/18/libpq-pgservice.html>; the rules are those of `parseServiceFile` in
//! `fe-connect.c` (PostgreSQL 18). Settings by LDAP are not supported.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::environment::Environment;
use super::keyword;
use crate::{Error, Result};

/// A service's settings, with the names that the keyword table has.
type Settings = Vec<(&'static str, Zeroizing<String>)>;

/// The settings of a service: from the file named, or the first of the usual files that has it.
pub(crate) fn read(service: &str, file: Option<&str>, environment: &Environment) -> Result<Settings> {
    let own = file.map(PathBuf::from);
    let named = own.is_some();
    let own = own.or_else(|| environment.in_home(".pg_service.conf"));
    let system = environment.system_folders.iter().map(|folder| folder.join("pg_service.conf"));
    for path in own.into_iter().chain(system) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => continue,
            Err(source) => return Err(Error::file("service file", &path, source)),
        };
        if let Some(settings) = find(&text, service, &path)? {
            return Ok(settings);
        }
    }
    let reason = format!("there is no service \"{service}\" in the service files");
    let hint = "add a group [name] to ~/.pg_service.conf, or name its file by servicefile or PGSERVICEFILE";
    Err(Error::Setting { setting: "service".to_owned(), reason, hint })
}

/// The settings of a group in a service file. As elsewhere in such files, the first mention of a setting counts.
fn find(text: &str, service: &str, path: &Path) -> Result<Option<Settings>> {
    let wrong = |number: usize, reason: &str| {
        let setting = format!("service file {} line {number}", path.display());
        let hint = "each line is [name], setting=value or starts with #";
        Error::Setting { setting, reason: reason.to_owned(), hint }
    };
    let mut settings = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if settings.is_some() {
                break;
            }
            if name.strip_suffix(']') == Some(service) {
                settings = Some(Settings::new());
            }
            continue;
        }
        let Some(settings) = settings.as_mut() else { continue };
        let Some((name, value)) = line.split_once('=') else {
            return Err(wrong(number, "there is no equals sign"));
        };
        let Some(keyword) = keyword::find(name) else {
            return Err(wrong(number, "the word in front of the equals sign is no connection setting"));
        };
        if matches!(keyword.name, "service" | "servicefile") {
            return Err(wrong(number, "a service cannot name another service"));
        }
        if !settings.iter().any(|(known, _)| *known == keyword.name) {
            settings.push((keyword.name, Zeroizing::new(value.to_owned())));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# services
[empty]

[main]
  host=db.example.com
port=5433
password=two words = one
port=1
[other]
host=elsewhere
[broken]
secret
[nested]
service=main
[odd]
hots=a
";

    fn group(service: &str) -> Result<Option<String>> {
        let settings = find(FILE, service, Path::new("/f"))?;
        Ok(settings.map(|s| s.iter().map(|(n, v)| format!("{n}={}", **v)).collect::<Vec<_>>().join(";")))
    }

    #[test]
    fn groups_are_found() {
        let main = "host=db.example.com;port=5433;password=two words = one";
        for (service, expected) in
            [("main", Some(main)), ("other", Some("host=elsewhere")), ("empty", Some("")), ("none", None)]
        {
            assert_eq!(group(service).unwrap().as_deref(), expected, "{service}");
        }
    }

    #[test]
    fn r21_a_wrong_line_is_named_and_not_shown() {
        for (service, line, word) in [
            ("broken", 12, "equals sign"),
            ("nested", 14, "another service"),
            ("odd", 16, "no connection setting"),
        ] {
            let error = group(service).unwrap_err().to_string();
            assert!(error.contains(&format!("/f line {line}")) && error.contains(word), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn files_are_tried_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment {
            home: Some(folder.path().join("home")),
            system_folders: vec![folder.path().join("none"), folder.path().join("system")],
            ..Environment::default()
        };
        for name in ["home", "system"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("home/.pg_service.conf"), "[mine]\nhost=a\n").unwrap();
        std::fs::write(folder.path().join("system/pg_service.conf"), "[mine]\nhost=b\n[its]\nhost=c\n")
            .unwrap();
        let host =
            |service, file| read(service, file, &environment).map(|settings| settings[0].1.to_string());
        assert_eq!(host("mine", None).unwrap(), "a");
        assert_eq!(host("its", None).unwrap(), "c");
        assert!(host("none", None).unwrap_err().to_string().contains("no service \"none\""));
        assert!(matches!(host("its", Some("/does/not/exist")), Err(Error::File { .. })));
    }
}
