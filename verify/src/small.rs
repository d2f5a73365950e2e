//! Small objects: what repository and cluster say of themselves, events, keys.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt};
use highwater_repository::{Digest, NamesId, NamesItem, Tail, TailPiece, WalHead, keys};
use highwater_storage::Key;
use highwater_wal::{SegmentName, WalFile};
use serde::Serialize;

use crate::error::Result;
use crate::finding::Finding;
use crate::record::{self, Record, Seen};
use crate::run::Run;
use crate::verdict::{Bad, verdict};

/// As many events are read side by side.
const READS_AT_ONCE: usize = 16;
/// As many segments are told that an index object speaks of and that are missing.
const MOST_MISSING: usize = 100;
/// Neither `highwater.json` nor `cluster.json` is longer.
const MOST_FACTS_BYTES: usize = 64 << 10;

impl Run<'_> {
    /// `highwater.json` and `cluster.json`, which have no checksum: that they are written as this program writes them, and as they were
    /// at the last verification.
    pub(crate) async fn facts(&mut self) -> Result<()> {
        let key = keys::repository_facts();
        let facts = self.cluster.repository().facts().await?;
        self.seen.repository = self.is_written_so(&key, &facts).await?;
        let key = self.cluster.section().cluster_facts();
        match self.cluster.facts().await {
            Ok(facts) => {
                self.pg_version = facts.pg_version;
                self.seen.cluster = self.is_written_so(&key, &facts).await?;
            }
            Err(error) => match verdict(error)? {
                Bad::Damaged(reason) => self.findings.push(Finding::damage(&key, reason)),
                Bad::Missing => self.gone.push(key.clone()),
            },
        }
        let last =
            self.past.last.as_ref().and_then(|(event, record)| Some((event.time, record.seen.clone()?)));
        if let Some((time, last)) = last {
            let pairs = [
                (keys::repository_facts(), &last.repository, &self.seen.repository),
                (key, &last.cluster, &self.seen.cluster),
            ];
            for (key, before, now) in pairs {
                if !before.is_empty() && !now.is_empty() && before != now {
                    self.findings.push(Finding::damage(
                        key,
                        format!("it is not what it was at the verification of {time}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether JSON that has no checksum has the form in which it is written. Answers its digest.
    async fn is_written_so(&mut self, key: &Key, facts: &impl Serialize) -> Result<String> {
        let text =
            self.cluster.repository().store().get(key).await.map_err(highwater_repository::Error::from)?;
        let mut expected = serde_json::to_vec_pretty(facts).unwrap_or_default();
        expected.push(b'\n');
        if text.len() > MOST_FACTS_BYTES || expected != text {
            self.findings.push(Finding::damage(
                key,
                "it is not written as Highwater writes it: somebody or something changed it",
            ));
        }
        Ok(Digest::of(&text).to_string())
    }

    /// Identities wrapped by a passphrase.
    pub(crate) async fn wrapped(&mut self) -> Result<()> {
        for key in self.there.wrapped.clone() {
            self.looked.other_objects += 1;
            let name = key.name();
            if name.len() != 32
                || !name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            {
                self.there.stray(key);
                continue;
            }
            match self.cluster.repository().prove_wrapped_identity(&key).await {
                Ok(true) => {}
                Ok(false) => {
                    self.unproven.insert(format!("{key}, without its passphrase (passphrase-file)"));
                }
                Err(error) => match verdict(error)? {
                    Bad::Damaged(reason) => self.findings.push(Finding::damage(key, reason)),
                    Bad::Missing => self.gone.push(key),
                },
            }
        }
        Ok(())
    }

    /// Names of relations: each line where everything is read, else what stands in front.
    pub(crate) async fn names(&mut self) -> Result<()> {
        for key in self.there.names.clone() {
            let id = key.name().parse::<NamesId>().ok();
            let Some(id) = id.filter(|id| self.cluster.section().names_at(id) == key) else {
                self.there.stray(key);
                continue;
            };
            self.looked.other_objects += 1;
            let read = match self.options.deep {
                true => self.every_name(&id).await,
                false => self.cluster.names_head(&id).await.map(|_| ()),
            };
            if let Err(error) = read {
                match verdict(error)? {
                    Bad::Damaged(reason) => self.findings.push(Finding::damage(key, reason)),
                    Bad::Missing => self.gone.push(key),
                }
            }
        }
        Ok(())
    }

    async fn every_name(&self, id: &NamesId) -> highwater_repository::Result<()> {
        let mut reader = self.cluster.get_names(id).await?;
        let (mut databases, mut relations) = (0, 0);
        while let Some(item) = reader.next()? {
            match item {
                // Relations that all databases share stand below a database without a name.
                NamesItem::Database(database) => databases += u64::from(database.oid != 0),
                NamesItem::Relation(_) => relations += 1,
            }
        }
        let head = reader.head();
        if relations == head.relations && databases <= head.databases {
            return Ok(());
        }
        let reason = format!(
            "its head tells of {} databases and {} relations, and it holds {databases} and {relations}",
            head.databases, head.relations
        );
        Err(highwater_repository::Error::damaged(self.cluster.section().names_at(id), reason))
    }

    /// Index objects: that each can be read, and that the segments are there of which it speaks. What it says of each segment is
    /// compared when that is read.
    pub(crate) async fn index(&mut self) -> Result<()> {
        let size = self.there.inventory.segment_size;
        for key in self.there.index.clone() {
            let place = keys::log_of_index(&key);
            let Some((timeline, log)) =
                place.filter(|(timeline, log)| self.cluster.section().index(*timeline, *log) == key)
            else {
                self.there.stray(key);
                continue;
            };
            self.looked.other_objects += 1;
            // Questions are answered by it: also where nothing else is read it is read whole.
            if let Err(error) = self.cluster.log_index(timeline, log).await {
                match verdict(error)? {
                    Bad::Damaged(reason) => self.findings.push(Finding::damage(&key, reason)),
                    Bad::Missing => {}
                }
            }
            let names =
                size.numbers_of_log(log).map(|number| SegmentName::from_number(timeline, number, size));
            let missing: Vec<SegmentName> = names.filter(|name| !self.there.inventory.has(*name)).collect();
            for name in missing.into_iter().take(MOST_MISSING) {
                let segment = self.cluster.section().wal(WalFile::Segment(name));
                // It may have come since the listing, and retention removes the index before it removes the segment.
                if !self.is_there(&segment).await? && self.is_there(&key).await? {
                    self.findings.push(Finding::damage(
                        segment,
                        format!("it is missing, and {key} says that it was there"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether the index says the same of a segment as its own object does.
    pub(crate) async fn compare_with_index(&mut self, name: SegmentName, head: &WalHead) -> Result<()> {
        let key = self.cluster.section().index(name.timeline, name.log);
        if self.there.index.binary_search(&key).is_err() {
            return Ok(());
        }
        if self.log.as_ref().is_none_or(|(of, _)| *of != key) {
            let index = self.cluster.log_index(name.timeline, name.log).await;
            // What is wrong with it was told when it was read for itself.
            let index = match index {
                Ok(index) => Some(index),
                Err(error) => verdict(error).map(|_| None)?,
            };
            self.log = Some((key.clone(), index));
        }
        let told = self.log.as_ref().and_then(|(_, index)| index.as_ref()?.head(name));
        if told.is_some_and(|told| **told != *head) {
            self.findings
                .push(Finding::damage(key, format!("it does not say of {name} what that says of itself")));
        }
        Ok(())
    }

    /// Pieces of segments that are still being written. Whoever receives them removes them when the whole segment is in.
    pub(crate) async fn tails(&mut self) -> Result<()> {
        for segment in self.there.tails.keys().copied().collect::<Vec<_>>() {
            let tail = self.cluster.tail(segment).await?;
            // Pieces of a segment that is there whole are needed by nobody.
            if !self.there.inventory.has(segment)
                && let Some((from, to)) = missing_between(tail.pieces())
            {
                let place = self.cluster.section().tail_of_segment(segment);
                self.findings
                    .push(Finding::damage(place, format!("its bytes from {from} to {to} are missing")));
            }
            self.strips(&tail);
            for piece in tail.pieces().iter().copied() {
                self.looked.other_objects += 1;
                let read = match self.options.deep {
                    true => tail.get(piece).await.map(|_| ()),
                    false => tail.head(piece).await.map(|_| ()),
                };
                let key = tail.key_of(piece);
                match read.err().map(verdict).transpose()? {
                    Some(Bad::Damaged(reason)) => self.findings.push(Finding::damage(key, reason)),
                    Some(Bad::Missing) | None => {}
                }
            }
        }
        Ok(())
    }

    /// What is to be said of the strips themselves.
    fn strips(&mut self, tail: &Tail) {
        for (key, what) in tail.damage() {
            self.findings.push(Finding::damage(key, what));
        }
        for (key, at) in tail.torn() {
            let what = format!(
                "what begins at its byte {at} is not whole: whoever wrote it was cut off, and it was never acknowledged"
            );
            self.findings.push(Finding::note(key, what));
        }
    }

    /// Every event: that it can be read, is where it says, and that those are there which verifications have seen.
    pub(crate) async fn events(&mut self) -> Result<()> {
        let repository = self.cluster.repository().clone();
        let names = self.there.events.clone();
        self.looked.events = names.len() as u64;
        let there: BTreeSet<&str> = names.iter().map(Key::as_str).collect();
        let mut seen_before: BTreeSet<String> = BTreeSet::new();
        let reads = stream::iter(&names).map(|name| {
            let repository = repository.clone();
            async move { (name, repository.event(name).await) }
        });
        let mut reads = std::pin::pin!(reads.buffered(READS_AT_ONCE));
        while let Some((name, read)) = reads.next().await {
            self.looked.events_read += 1;
            match read {
                Ok(event) => {
                    if event.name() != *name {
                        let what = format!("it says that it is {}", event.name());
                        self.findings.push(Finding::damage(name, what));
                    }
                    if event.action == record::ACTION
                        && let Some(seen) = Record::of_event(&event).and_then(|record| record.seen)
                    {
                        seen_before.extend(seen.events);
                    }
                }
                Err(error) => match verdict(error)? {
                    Bad::Damaged(reason) => self.findings.push(Finding::damage(name, reason)),
                    Bad::Missing => self.gone.push(name.clone()),
                },
            }
        }
        for name in seen_before.iter().filter(|name| !there.contains(name.as_str())) {
            self.findings
                .push(Finding::damage(name, "an earlier verification has seen this event, and it is gone"));
        }
        Ok(())
    }

    /// What is there now, for the next verification.
    pub(crate) fn see(&mut self) {
        let section = self.cluster.section();
        let mut objects = BTreeSet::new();
        for (label, found) in &self.there.backups {
            let parts = found.parts.iter().map(|number| section.manifest_part(label, *number));
            let mut names: Vec<Key> = parts.collect();
            names.extend(found.started.then(|| section.started(label)));
            names.extend(found.manifest.then(|| section.manifest(label)));
            names.extend(found.expired.then(|| section.expired(label)));
            names.extend(found.hold.then(|| section.hold(label)));
            names.extend(found.parent.then(|| section.parent(label)));
            objects.extend(names.iter().map(Key::to_string));
        }
        objects.extend(self.there.other_wal.iter().map(|file| section.wal(*file).to_string()));
        let lists = [&self.there.names, &self.there.index, &self.there.wrapped];
        objects.extend(lists.into_iter().flatten().map(Key::to_string));
        let marks = self.there.marks.iter();
        let marks = marks.filter_map(|(timeline, marks)| Some((*timeline, *marks.last()?)));
        objects.extend(marks.map(|(timeline, lsn)| section.reached_at(timeline, lsn).to_string()));
        while objects.len() > Seen::MOST_OBJECTS {
            objects.pop_first();
        }
        self.seen.objects = objects;
        let inventory = &self.there.inventory;
        for timeline in inventory.timelines() {
            if let Some(set) = inventory.segments_on(timeline) {
                self.seen.wal.insert(timeline.get(), record::runs_of(set));
            }
        }
        let last = self.past.last.as_ref().map(|(event, _)| event.name());
        let since = self.there.events.iter().filter(|name| last.as_ref().is_none_or(|last| *name >= last));
        self.seen.events = since.rev().take(Seen::MOST_OBJECTS).map(Key::to_string).collect();
    }

    /// Whether an object is a mark of a timeline's end for which a later one stands.
    fn is_superseded(&self, name: &str) -> bool {
        let key: Option<Key> = name.parse().ok();
        let timeline = key.as_ref().and_then(|key| {
            let (folder, _) = name.rsplit_once('/')?;
            let is_mark = folder.contains("/reached/");
            is_mark.then(|| keys::timeline_of_folder(&format!("{folder}/")).zip(keys::lsn_of_mark(key)))?
        });
        timeline.is_some_and(|(timeline, lsn)| {
            self.there.marks.get(&timeline).and_then(|marks| marks.last()).is_some_and(|last| *last > lsn)
        })
    }

    /// What the last verification saw and is gone now, though nothing was expired since.
    pub(crate) fn compare_with_last(&mut self) {
        let Some((event, record)) = &self.past.last else { return };
        let Some(last) = &record.seen else { return };
        let what = format!("it was there at the verification of {}, and is gone", event.time);
        let mut found = Vec::new();
        let there: BTreeSet<&str> = self.there.events.iter().map(Key::as_str).collect();
        let events = last.events.iter().filter(|name| !there.contains(name.as_str()));
        found.extend(events.map(|name| Finding::damage(name, &what)));
        if !self.past.has_expired() {
            let has_unmarked = self.past.has_unmarked();
            let is_mark = |name: &str| name.ends_with("/expired") || name.ends_with("/hold");
            let objects = last.objects.iter().filter(|name| !self.seen.objects.contains(*name));
            let objects = objects.filter(|name| !(has_unmarked && is_mark(name)));
            let objects = objects.filter(|name| !self.is_superseded(name));
            found.extend(objects.map(|name| Finding::damage(name, &what)));
            let size = self.there.inventory.segment_size;
            for (timeline, runs) in &last.wal {
                for number in runs.iter().flat_map(|(first, last)| *first..=*last) {
                    let Some(name) = record::segment_name(*timeline, number, size) else { continue };
                    if !self.there.inventory.has(name) {
                        let key = self.cluster.section().wal(highwater_wal::WalFile::Segment(name));
                        found.push(Finding::damage(key, &what));
                    }
                }
            }
        }
        self.findings.extend(found);
    }
}

/// The first bytes of a segment that lie before one of its pieces, and in none. The pieces are in order.
fn missing_between(pieces: &[TailPiece]) -> Option<(u32, u32)> {
    let mut end = 0;
    for piece in pieces {
        if piece.from > end {
            return Some((end, piece.from));
        }
        end = end.max(piece.to);
    }
    None
}
