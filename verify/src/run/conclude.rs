//! What is concluded when everything was looked at: holes, histories, what was not there, what listing alone has shown.

use highwater_repository::Event;
use highwater_storage::Key;
use highwater_wal::WalFile;

use super::Run;
use crate::chain;
use crate::error::Result;
use crate::finding::{Finding, Weight};
use crate::histories;

impl Run<'_> {
    /// Holes, and segments that are damaged, with who needs them.
    pub(super) fn chains(&mut self) {
        let kept: Vec<_> =
            self.whole.iter().filter(|backup| !backup.expired).map(|backup| backup.facts.clone()).collect();
        let size = self.there.inventory.segment_size;
        let section = self.cluster.section();
        let wanted = |gap: &chain::Gap| match (&self.options.backup, self.options.timeline) {
            (Some(label), _) => gap.backups.iter().any(|name| name == label.as_str()),
            (_, Some(timeline)) => gap.first.timeline == timeline || gap.last.timeline == timeline,
            _ => true,
        };
        let seen = self.there.with_newest_pieces(&kept);
        for gap in chain::gaps(&seen, &kept).into_iter().filter(wanted) {
            let (first, last) = (gap.first.number(size), gap.last.number(size));
            let count = last - first + 1;
            let what = match count {
                1 => format!("this segment is missing: {}", gap.what),
                _ => format!("{count} segments are missing, from this one to {}: {}", gap.last, gap.what),
            };
            let is_cut_back = self.is_expiring && gap.backups.is_empty();
            let mut finding = match gap.weight {
                Weight::Damage if is_cut_back => Finding::note(
                    section.wal(WalFile::Segment(gap.first)),
                    format!("{what}; an expire was removing WAL meanwhile: verify again when it has ended"),
                ),
                Weight::Damage => Finding::damage(section.wal(WalFile::Segment(gap.first)), what),
                Weight::Note => Finding::note(section.wal(WalFile::Segment(gap.first)), what),
            };
            finding.moments = gap.moments;
            self.findings.push(finding.needed_by(gap.backups));
        }
        // What a promoted server archives may come before the rest of what it goes on from: so this is no damage.
        let of_all = self.options.backup.is_none();
        for (first, what) in chain::short_ends(&seen, &kept) {
            if of_all && self.wants_timeline(first.timeline) {
                self.findings.push(Finding::note(section.wal(WalFile::Segment(first)), what));
            }
        }
        // What would be if the damaged ones were missing.
        let mut without = seen;
        self.damaged_segments.keys().for_each(|name| without.remove_segment(*name));
        let gaps = chain::gaps(&without, &kept);
        for (name, reasons) in &self.damaged_segments {
            let number = name.number(size);
            let gap = gaps.iter().find(|gap| {
                (gap.first.number(size)..=gap.last.number(size)).contains(&number)
                    && (gap.first.timeline..=gap.last.timeline).contains(&name.timeline)
            });
            for reason in reasons {
                let mut finding = Finding::damage(section.wal(WalFile::Segment(*name)), reason);
                if let Some(gap) = gap {
                    finding = finding.needed_by(gap.backups.clone());
                    finding.moments.clone_from(&gap.moments);
                }
                self.findings.push(finding);
            }
        }
    }

    /// Histories that are missing or contradict something.
    pub(super) fn timelines(&mut self) {
        let section = self.cluster.section();
        for timeline in self.there.inventory.lost_histories() {
            if self.there.inventory.damaged_history(timeline).is_none() {
                let what = format!("it is missing, so nobody can say where timeline {timeline} forked off");
                self.findings.push(Finding::damage(section.wal(WalFile::History(timeline)), what));
            }
        }
        for (timeline, what) in histories::contradictions(&self.there.inventory) {
            self.findings.push(Finding::damage(section.wal(WalFile::History(timeline)), what));
        }
    }

    /// What was not there when it was to be read: retention may have removed it meanwhile, rightly.
    pub(super) async fn judge_gone(&mut self) -> Result<()> {
        let gone = std::mem::take(&mut self.gone);
        let backups = self.cluster.section().backups();
        for key in gone {
            if self.is_there(&key).await? {
                continue;
            }
            let label = key
                .as_str()
                .strip_prefix(&backups)
                .and_then(|rest| rest.split_once('/'))
                .map(|(label, _)| label);
            match label.map(str::parse) {
                Some(Ok(label)) => {
                    let expired = self.there.backups.get(&label).is_some_and(|objects| objects.expired);
                    let manifest = self.cluster.section().manifest(&label);
                    // A backup that is being removed loses its manifest first.
                    let is_removed = manifest != key && !self.is_there(&manifest).await?;
                    let is_begun = self.is_there(&self.cluster.section().started(&label)).await?;
                    if expired
                        || (is_removed || !is_begun) && self.cluster.backups().is_expired(&label).await?
                    {
                        continue;
                    }
                    // Nothing is left of it.
                    if (is_removed || manifest == key)
                        && !is_begun
                        && (!self.was_seen(&manifest) || self.past.has_expired())
                    {
                        continue;
                    }
                    let finding = Finding::damage(&key, "it is missing");
                    let is_needed = key.name() != "started";
                    self.findings.push(finding.needed_by(is_needed.then(|| label.to_string())));
                }
                _ => match key.name().parse::<WalFile>() {
                    // Whether anybody needs it is seen with the holes.
                    Ok(WalFile::Segment(name)) => self.there.inventory.remove_segment(name),
                    Ok(_) if self.past.has_expired() => {}
                    _ => self.findings.push(Finding::damage(&key, "it is missing")),
                },
            }
        }
        Ok(())
    }

    fn was_seen(&self, key: &Key) -> bool {
        let seen = self.past.last.as_ref().and_then(|(_, record)| record.seen.as_ref());
        seen.is_some_and(|seen| seen.objects.contains(key.as_str()))
    }

    /// Reads what was noted since the listing: retention notes that it begins before it removes anything.
    pub(super) async fn meanwhile(&mut self) -> Result<()> {
        let repository = self.cluster.repository();
        let last = self.there.events.last().map(|key| key.to_string());
        let (names, _) = repository.event_names(last.as_deref()).await?;
        for name in names {
            if let Ok(event) = repository.event(&name).await {
                self.past.since.insert(0, event);
            }
        }
        let began = self.began;
        let is_recent = |event: &Event| event.time >= began && self.past.is_removal(event);
        self.is_expiring = self.past.is_expiring() || self.past.since.iter().any(is_recent);
        Ok(())
    }

    /// What listing alone has shown.
    pub(super) fn listed_wrongly(&mut self) {
        for key in std::mem::take(&mut self.there.empty) {
            self.findings.push(Finding::damage(key, "it is empty"));
        }
        for name in std::mem::take(&mut self.there.strays) {
            self.findings.push(Finding::note(name, "no object of Highwater's has this name"));
        }
        if self.there.more_strays > 0 {
            let what =
                format!("{} more objects have names that none of Highwater's has", self.there.more_strays);
            self.findings.push(Finding::note(crate::there::below(self.cluster), what));
        }
        for (label, objects) in self.there.backups.clone() {
            if objects.expired && objects.manifest {
                let what = format!("backup {label} is expired: it goes in a later run of expire");
                self.findings.push(Finding::note(self.cluster.section().expired(&label), what));
            }
        }
    }

    pub(super) fn count_leftovers(&mut self) {
        if self.stray_packs > 20 {
            let what = format!("no manifest names {} packs, {} bytes", self.stray_packs, self.stray_bytes);
            self.findings.push(Finding::note(self.cluster.section().packs(), what));
        }
        if self.more_bad_pages > 0 {
            let what = format!("{} more pages have wrong checksums", self.more_bad_pages);
            self.findings.push(Finding::damage(self.cluster.section().packs(), what));
        }
    }
}
