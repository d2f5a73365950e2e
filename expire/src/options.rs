//! What is asked for.

use highwater_catalog::retention::{Clock, Rules};
use highwater_repository::RetentionConfig;

use crate::{Error, Result};

/// What a run is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What is to be kept.
    pub rules: Rules,
    /// What time it is.
    pub clock: Clock,
    /// Whether it is carried out; else it is only told.
    pub apply: bool,
    /// The system identifier is done with: its last good backup may go, too.
    pub retire: bool,
}

impl Options {
    /// A run that only tells.
    pub fn new(rules: Rules, clock: Clock) -> Options {
        Options { rules, clock, apply: false, retire: false }
    }

    /// Whether the rules are fit to be carried out.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.rules.say_what_to_keep() && !self.retire {
            return Err(Error::NoRule);
        }
        if self.rules.grace < Rules::MIN_GRACE {
            let is = format!("{} s", self.rules.grace.as_secs());
            return Err(Error::TooShort { setting: "grace", is, least: "1d".to_owned() });
        }
        Ok(())
    }
}

/// The rules that settings make; what is not set is as [`Rules::default`] has it.
pub fn rules(settings: &RetentionConfig) -> Rules {
    let usual = Rules::default();
    Rules {
        window: settings.window,
        backups: settings.backups.unwrap_or(0),
        daily: settings.daily.unwrap_or(0),
        weekly: settings.weekly.unwrap_or(0),
        monthly: settings.monthly.unwrap_or(0),
        yearly: settings.yearly.unwrap_or(0),
        zone: settings.utc_offset.unwrap_or(usual.zone),
        minimum_age: settings.minimum_age.unwrap_or(usual.minimum_age),
        grace: settings.grace.unwrap_or(usual.grace),
        abandoned_after: settings.abandoned_after.unwrap_or(usual.abandoned_after),
    }
}

#[cfg(test)]
mod tests {
    use highwater_catalog::retention::DAY;
    use highwater_wal::Timestamp;

    use super::*;

    #[test]
    fn r19_without_a_rule_nothing_goes() {
        let clock = Clock { here: Timestamp(0), archive: None };
        let options = Options::new(rules(&RetentionConfig::default()), clock);
        assert!(matches!(options.check(), Err(Error::NoRule)));
        assert!(Options { retire: true, ..options.clone() }.check().is_ok());
        let set = RetentionConfig { yearly: Some(1), ..RetentionConfig::default() };
        assert!(Options { rules: rules(&set), ..options.clone() }.check().is_ok());
        let short = RetentionConfig { grace: Some(DAY / 2), ..set };
        let refused = Options { rules: rules(&short), ..options }.check().unwrap_err();
        assert!(refused.to_string().contains("hint: "), "{refused}");
    }
}
