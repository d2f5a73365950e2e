//! Settings by name, gathered from the connection string, the service file and the environment.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::environment::Environment;
use super::keyword::{self, KEYWORDS, Support};
use super::{conninfo, service, uri};
use crate::{Error, Result};

/// A setting as it stands in a connection string.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: Zeroizing<String>,
    /// Where it starts, in characters from 1.
    pub(crate) position: usize,
}

/// Settings that this client knows, each with where it comes from. It holds passwords, so it cannot be printed.
pub(crate) struct Parameters {
    values: BTreeMap<&'static str, Value>,
}

struct Value {
    text: Zeroizing<String>,
    /// What the setting is called in messages.
    origin: String,
}

impl Parameters {
    /// The settings of a connection string, completed from the service file it names and from the environment.
    pub(crate) fn gather(text: &str, environment: &Environment) -> Result<Parameters> {
        let mut parameters = Parameters { values: BTreeMap::new() };
        let pairs = match uri::body(text) {
            Some(body) => uri::parse(text, body)?,
            None => conninfo::parse(text)?,
        };
        let mut secret_seen = false;
        for pair in pairs {
            let Some(keyword) = keyword::find(&pair.name) else {
                return Err(unknown(&pair, secret_seen || text.contains('@')));
            };
            secret_seen |= keyword.name == "password";
            // The last one counts, as it does for libpq.
            let origin = keyword.name.to_owned();
            parameters.values.insert(keyword.name, Value { text: pair.value, origin });
        }
        if let Some(name) = parameters.or_variable("service", environment) {
            let file = parameters.or_variable("servicefile", environment);
            for (name, value) in service::read(&name, file.as_deref(), environment)? {
                let origin = format!("{name} (service file)");
                parameters.values.entry(name).or_insert(Value { text: value, origin });
            }
        }
        for keyword in KEYWORDS {
            let Some(variable) = keyword.variable else { continue };
            let Some(text) = environment.variable(variable) else { continue };
            let text = Zeroizing::new(text.to_owned());
            parameters.values.entry(keyword.name).or_insert(Value { text, origin: variable.to_owned() });
        }
        parameters.refuse_unsupported()?;
        Ok(parameters)
    }

    fn or_variable(&self, name: &str, environment: &Environment) -> Option<String> {
        let variable = keyword::find(name).and_then(|keyword| keyword.variable);
        let text = self.values.get(name).map(|value| value.text.as_str());
        let text = text.or_else(|| environment.variable(variable?))?;
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    fn refuse_unsupported(&self) -> Result<()> {
        for (name, value) in &self.values {
            match keyword::find(name).map(|keyword| keyword.support) {
                Some(Support::Refused(hint)) if !value.text.is_empty() => {
                    let reason = "this setting of libpq is not supported".to_owned();
                    return Err(Error::Setting { setting: value.origin.clone(), reason, hint });
                }
                Some(Support::Only(legal))
                    if !value.text.is_empty() && !legal.contains(&value.text.as_str()) =>
                {
                    let reason = format!("of libpq's values only these are supported: {}", legal.join(", "));
                    return Err(Error::Setting {
                        setting: value.origin.clone(),
                        reason,
                        hint: "leave it out",
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The value of a setting; one that is set to nothing counts as not set.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// An owned copy of [`Parameters::text`].
    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// The value of a setting that is written in a fixed way. The value is never shown: after a slip of the pen it may
    /// be a piece of a password (R21).
    pub(crate) fn parse<T: FromStr<Err = E>, E: Display>(
        &self,
        name: &str,
        hint: &'static str,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|error: E| self.wrong(name, error.to_string(), hint))
    }

    /// One value out of a list of legal ones.
    pub(crate) fn choose<T: Copy>(&self, name: &str, legal: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match legal.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let words: Vec<&str> = legal.iter().map(|(word, _)| *word).collect();
                let reason = format!("it is none of {}", words.join(", "));
                Err(self.wrong(name, reason, "write one of these, in small letters"))
            }
        }
    }

    /// A number of seconds or the like: whole and perhaps negative, as libpq has it.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i32>> {
        self.parse(name, "write a whole number")
    }

    /// What is wrong with a setting.
    pub(crate) fn wrong(&self, name: &str, reason: impl Into<String>, hint: &'static str) -> Error {
        let origin = self.values.get(name).map_or(name, |value| &value.origin);
        Error::Setting { setting: origin.to_owned(), reason: reason.into(), hint }
    }
}

/// A name that is no setting. It is not shown where it may be a piece of a password (R21).
fn unknown(pair: &Pair, hidden: bool) -> Error {
    let nearest = keyword::nearest(&pair.name);
    match hidden {
        false => Error::UnknownSetting { name: format!("\"{}\"", pair.name), nearest },
        true => Error::UnknownSetting { name: format!("the word at character {}", pair.position), nearest },
    }
}
