//! Whether a server is of the kind that `target_session_attrs` asks for. No I/O.

use crate::{Error, Result, TargetSession};

/// Looks at what the server reported of itself at the start of the session; PostgreSQL 14 and newer do.
pub(super) fn check<'a>(target: TargetSession, parameter: &dyn Fn(&str) -> Option<&'a str>) -> Result<()> {
    let is_on = |name: &str| match parameter(name) {
        Some(value) => Ok(value == "on"),
        None => Err(Error::Setting {
            setting: "target_session_attrs".to_owned(),
            reason: "this server does not say what it is".to_owned(),
            hint: "it needs PostgreSQL 14 or newer; leave it out",
        }),
    };
    let wrong = |found| Err(Error::WrongSession { found });
    match target {
        TargetSession::Any | TargetSession::PreferStandby => Ok(()),
        TargetSession::Primary if is_on("in_hot_standby")? => wrong("a standby"),
        TargetSession::Standby if !is_on("in_hot_standby")? => wrong("a primary"),
        TargetSession::Primary | TargetSession::Standby => Ok(()),
        TargetSession::ReadWrite | TargetSession::ReadOnly => {
            let read_only = is_on("in_hot_standby")? || is_on("default_transaction_read_only")?;
            match target {
                TargetSession::ReadWrite if read_only => wrong("read-only"),
                TargetSession::ReadOnly if !read_only => wrong("read-write"),
                _ => Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_server() {
        use TargetSession::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
        for (standby, read_only, fitting) in [
            ("off", "off", &[Any, PreferStandby, Primary, ReadWrite][..]),
            ("off", "on", &[Any, PreferStandby, Primary, ReadOnly]),
            ("on", "off", &[Any, PreferStandby, Standby, ReadOnly]),
        ] {
            let parameter = |name: &str| match name {
                "in_hot_standby" => Some(standby),
                "default_transaction_read_only" => Some(read_only),
                _ => None,
            };
            for target in [Any, ReadWrite, ReadOnly, Primary, Standby, PreferStandby] {
                assert_eq!(check(target, &parameter).is_ok(), fitting.contains(&target), "{target:?}");
            }
        }
        assert!(matches!(check(Primary, &|_| None), Err(Error::Setting { .. })));
        assert!(check(Any, &|_| None).is_ok());
    }
}
