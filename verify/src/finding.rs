//! What a verification finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ledger::Blame;

/// As many findings are told one by one. What is beyond is counted.
pub const MAX_FINDINGS: usize = 10_000;

/// What a finding means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Something is damaged or missing that was meant to be there.
    Damage,
    /// Worth knowing, and no damage.
    Note,
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What it means.
    pub weight: Weight,
    /// The object: its name in the repository.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// The backups that cannot be restored without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<String>,
    /// The moments that cannot be reached without it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moments: Option<String>,
}

impl Finding {
    /// Something damaged or missing.
    pub fn damage(object: impl ToString, what: impl Into<String>) -> Finding {
        Finding::new(Weight::Damage, object, what)
    }

    /// Something worth knowing.
    pub fn note(object: impl ToString, what: impl Into<String>) -> Finding {
        Finding::new(Weight::Note, object, what)
    }

    fn new(weight: Weight, object: impl ToString, what: impl Into<String>) -> Finding {
        Finding { weight, object: object.to_string(), what: what.into(), backups: Vec::new(), moments: None }
    }

    /// The same with the backups that need the object.
    #[must_use]
    pub fn needed_by(mut self, backups: impl IntoIterator<Item = String>) -> Finding {
        self.backups.extend(backups);
        self
    }

    /// The same with the moments that cannot be reached without it.
    #[must_use]
    pub fn without_it(mut self, moments: impl Into<String>) -> Finding {
        self.moments = Some(moments.into());
        self
    }
}

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    left_out: [u64; 2],
    /// What is wrong with each backup that cannot be restored, by label: the first that was found, of all findings.
    blamed: BTreeMap<String, Blame>,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        if finding.weight == Weight::Damage {
            for label in &finding.backups {
                self.blame(label, &finding.object, &finding.what);
            }
        }
        if self.list.len() < MAX_FINDINGS {
            self.list.push(finding);
        } else {
            self.left_out[usize::from(finding.weight == Weight::Note)] += 1;
        }
    }

    /// Notes that a backup cannot be restored whole, whether or not that is told.
    pub(crate) fn blame(&mut self, label: &str, object: &str, what: &str) {
        let in_packs = object.contains("/packs/");
        let known = self.blamed.entry(label.to_owned());
        let known =
            known.or_insert_with(|| Blame { object: object.to_owned(), what: what.to_owned(), in_packs });
        known.in_packs |= in_packs;
    }

    /// What is wrong with backups, by label.
    pub(crate) fn blamed(&self) -> &BTreeMap<String, Blame> {
        &self.blamed
    }

    pub(crate) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.push(finding));
    }

    /// In order, damage first, each once; and how many damages and notes are not among them.
    pub(crate) fn finish(&mut self) -> (Vec<Finding>, [u64; 2]) {
        let mut list = std::mem::take(&mut self.list);
        list.sort();
        list.dedup();
        (list, self.left_out)
    }
}
