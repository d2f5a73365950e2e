//! What comes before a stream: which server this is, whether it may be received, and where to begin.

use std::time::Duration;

use highwater_catalog::{Gap, Path};
use highwater_replication::{Client, Mode, SlotName, connect};
use highwater_repository::{ClusterRepository, Marker};
use highwater_wal::{Lsn, SegmentSize, SystemId, TimelineHistory, TimelineId};
use tokio::time::Instant;

use crate::alarms::{self, Alarm, Kind};
use crate::engine::Place;
use crate::error::{Error, Result};
use crate::origin::{self, Kept, Look};
use crate::over::Outlook;
use crate::presence;
use crate::receiver::Receiver;

/// A server that is asked for signs of life and gives none for so long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// SQLSTATE `insufficient_privilege`.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What a session has found out about server and repository.
pub(crate) struct Found {
    pub(crate) system_id: SystemId,
    pub(crate) size: SegmentSize,
    pub(crate) clusters: Vec<ClusterRepository>,
    pub(crate) slot_restart: Option<Lsn>,
    /// Where the server is, and how it came there.
    pub(crate) timeline: TimelineId,
    pub(crate) position: Lsn,
    pub(crate) history: Option<TimelineHistory>,
}

impl Found {
    fn path(&self) -> Path {
        path_to(self.timeline, self.history.as_ref())
    }

    fn outlook(&self, path: Path) -> Outlook {
        Outlook::new(self.clusters.clone(), path, self.size)
    }
}

fn path_to(timeline: TimelineId, history: Option<&TimelineHistory>) -> Path {
    history.map_or_else(|| Path::root(timeline), Path::from_history)
}

/// Where a repository ends: timeline, start of the segment that is not whole, end of its pieces.
type End = (TimelineId, Lsn, Lsn);

/// What a repository has of a timeline on the server's way, and where that was left.
type OnWay = (TimelineId, Option<Lsn>, Kept);

impl Receiver {
    /// Connects, and finds out where to begin.
    pub(crate) async fn prepare(&mut self) -> Result<(Client, Found, Place)> {
        let mut config = self.settings.connection.clone();
        config.application_name.get_or_insert_with(|| "highwater".to_owned());
        let mut client = connect(&config, Mode::Replication).await?;
        client.limits_mut().idle = SILENCE_LIMIT;
        loop {
            let found = self.look(&mut client).await?;
            self.look_at_alarms(&found).await?;
            let place = self.place(&found).await?;
            if !self.wait_for_recovery(&mut client, &found, &place).await? {
                return Ok((client, found, place));
            }
        }
    }

    /// Tells of what earlier receivers have told of, where it is not over, and lets go what is.
    async fn look_at_alarms(&mut self, found: &Found) -> Result<()> {
        let mut outlook = found.outlook(found.path());
        let mut known = Vec::new();
        if let Some(cluster) = found.clusters.first()
            && !self.has_read_alarms
        {
            known = alarms::told(cluster).await?;
            self.has_read_alarms = true;
        }
        let mut gaps = self.alarms.gaps();
        gaps.extend(known.iter().map(|alarm| alarm.gap));
        let over = outlook.over(&gaps).await?;
        known.retain(|alarm| over.iter().all(|(gap, _)| alarm.gap != *gap));
        self.end_alarms(&over);
        known.into_iter().for_each(|alarm| self.alarm(alarm));
        self.watch(outlook);
        Ok(())
    }

    /// Looks from now on along the way to another timeline whether alarms are over.
    pub(crate) async fn follow(
        &mut self,
        client: &mut Client,
        found: &Found,
        timeline: TimelineId,
    ) -> Result<()> {
        let path = path_to(timeline, history(client, timeline).await?.as_ref());
        self.watch(found.outlook(path));
        Ok(())
    }

    /// Finds out which cluster this is and whether it may be received.
    async fn look(&mut self, client: &mut Client) -> Result<Found> {
        let identity = client.identify_system().await?;
        let system_id = identity.system_id;
        self.lag.ends_at(identity.position, Instant::now());
        self.note_lag(identity.position, self.state.durable);
        // The repository may be waited for from here on.
        self.publish();
        if let Some(expected) = self.state.system_id.filter(|expected| *expected != system_id) {
            return Err(Error::OtherSystem { expected, found: system_id });
        }
        let name = &self.settings.cluster;
        let clusters: Vec<ClusterRepository> =
            self.settings.repositories.iter().map(|repository| repository.cluster(name, system_id)).collect();
        let mut size = None;
        for cluster in &clusters {
            cluster.repository().facts().await?;
            let found = cluster.facts().await?.segment_size;
            if *size.get_or_insert(found) != found {
                return Err(Error::SegmentSizes { cluster: name.to_string() });
            }
        }
        let size = size.ok_or_else(|| Error::SegmentSizes { cluster: name.to_string() })?;
        self.state.system_id = Some(system_id);
        self.refuse_clones().await?;
        let slot_restart = match self.settings.slot.clone() {
            Some(slot) => self.slot(client, &slot).await?,
            None => None,
        };
        let (timeline, position) = (identity.timeline, identity.position);
        let history = history(client, timeline).await?;
        Ok(Found { system_id, size, clusters, slot_restart, timeline, position, history })
    }

    /// A restored clone must not archive (R5): its data directory says so, and where that is not here, the server is asked.
    async fn refuse_clones(&self) -> Result<()> {
        const QUERY: &str = "SELECT pg_catalog.pg_read_file('highwater.clone', 0, 65536, true)";
        let local =
            self.settings.data_directory.as_deref().filter(|folder| folder.join("PG_VERSION").exists());
        if let Some(marker) = local.map(Marker::read).transpose()?.flatten() {
            return refuse_clone(&marker);
        }
        let asked = async {
            let mut client = connect(&self.settings.connection, Mode::Sql).await?;
            let rows = client.query(QUERY).await?;
            client.close().await;
            Ok(rows.single()?.text(0)?.map(str::to_owned))
        };
        let asked: Result<Option<String>, highwater_replication::Error> = asked.await;
        match asked {
            Ok(None) => Ok(()),
            Ok(Some(text)) => match serde_json::from_str(&text) {
                Ok(marker) => refuse_clone(&marker),
                Err(error) => Err(Error::Clone { origin: format!("an unknown cluster ({error})") }),
            },
            // Whoever configured the data directory here has answered.
            Err(_) if local.is_some() => Ok(()),
            Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => {
                Err(Error::NotToldWhetherClone { reason: error.to_string() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// From where on the server keeps WAL for us. A slot that keeps none, since it was never used or has lost what it kept, is of no use: it
    /// is made anew where slots are made.
    async fn slot(&mut self, client: &mut Client, slot: &SlotName) -> Result<Option<Lsn>> {
        let mut found = self.read_slot(client, slot).await?;
        if self.settings.create_slot
            && found.is_none_or(|found| found.is_physical && found.restart_lsn.is_none())
        {
            if found.is_some() {
                client.drop_slot(slot).await?;
            }
            client.create_physical_slot(slot).await?;
            found = self.read_slot(client, slot).await?;
            self.slot_began = found.and_then(|found| found.restart_lsn);
        }
        match found {
            Some(found) if found.is_physical => Ok(found.restart_lsn),
            Some(_) => Err(Error::LogicalSlot { slot: slot.clone() }),
            None => Err(Error::NoSlot { slot: slot.clone() }),
        }
    }

    async fn read_slot(
        &self,
        client: &mut Client,
        slot: &SlotName,
    ) -> Result<Option<highwater_replication::ReplicationSlot>> {
        if client.reads_slots() {
            return Ok(client.replication_slot(slot).await?);
        }
        let mut sql = connect(&self.settings.connection, Mode::Sql).await?;
        let found = sql.replication_slot_by_sql(slot).await?;
        sql.close().await;
        Ok(found)
    }

    /// Where to begin: where the repository ends; where that is lost, at what the server still has.
    async fn place(&mut self, found: &Found) -> Result<Place> {
        let way = origin::way(found.timeline, found.history.as_ref());
        let (mut on_way, mut tops) = (Vec::new(), Vec::new());
        for cluster in &found.clusters {
            let mut kept = Vec::new();
            // The newest timeline of which there is anything decides.
            for (timeline, left_at) in way.iter().rev() {
                let until = left_at.unwrap_or(found.position);
                let has = origin::kept(cluster, *timeline, self.look_at(found, until)).await?;
                let top = has.end(found.size);
                tops.extend(top.map(|top| (cluster, *timeline, top)));
                let is_there = top.is_some();
                kept.insert(0, (*timeline, *left_at, has));
                if is_there {
                    break;
                }
            }
            on_way.push(kept);
        }
        // Of several repositories the one that ends first.
        let order = |timeline: TimelineId| way.iter().position(|(other, _)| *other == timeline);
        let first = |on_way: &[Vec<OnWay>]| {
            let ends = on_way.iter().filter_map(|kept| origin::place(kept, found.size));
            ends.min_by_key(|(timeline, begin, stored)| (order(*timeline), *begin, *stored))
        };
        let end = first(&on_way).unwrap_or_else(|| {
            let lsn = found.slot_restart.unwrap_or(found.position);
            let (timeline, begin) = origin::fresh(&way, lsn, found.size);
            (timeline, begin, begin)
        });
        self.tell_of_a_lost_end(found, &way, &tops).await?;
        // The server need not be asked for what it has no more, where there is something to go on with.
        let goes_on = tops.iter().any(|(_, timeline, top)| (order(*timeline), *top) > (order(end.0), end.2));
        if goes_on && self.oldest_wal(end.0, found.size).await.is_some_and(|oldest| oldest > end.1) {
            self.lose(end.0, end.1);
        }
        // What else is there is an end as well, where the pieces that come first lead nowhere.
        for kept in &mut on_way {
            for (timeline, lsn) in &self.lost {
                origin::forget(kept, *timeline, *lsn, found.size);
            }
        }
        let later = first(&on_way).filter(|later| (order(later.0), later.1) > (order(end.0), end.1));
        let is_lost = |(timeline, begin, _): &End| self.lost.contains(&(*timeline, *begin));
        let place = match later {
            _ if !is_lost(&end) => end,
            Some(later) if !is_lost(&later) => later,
            later => return self.behind_the_hole(found, &way, later.unwrap_or(end)).await,
        };
        self.tell_of_a_gap(found, place.1).await?;
        self.place_on(found, place.0, place.1).await
    }

    /// Goes on behind WAL that the server no longer has, and tells of it.
    async fn behind_the_hole(&mut self, found: &Found, way: &origin::Way, end: End) -> Result<Place> {
        let (lost, from) = ((end.0, end.1), end.2);
        let oldest = self.oldest_wal(found.timeline, found.size).await;
        let kept_from = [found.slot_restart, oldest].into_iter().flatten().filter(|lsn| *lsn > lost.1).min();
        let (timeline, begin) = origin::fresh(way, kept_from.unwrap_or(found.position), found.size);
        let place = self.place_on(found, timeline, begin).await?;
        let gap = Gap { timeline: lost.0, from, to: begin };
        let how = match self.alarms.has(Kind::Gone, &gap) {
            true => "it has gone from the repository, and the server has it no more",
            false => "the server had removed it before it was received",
        };
        let text = format!(
            "WAL from {from} to {begin} on timeline {} is lost: {how}; take a base backup now (highwater backup)",
            lost.0
        );
        self.note_alarm(found, Alarm { kind: Kind::Lost, gap, text }).await?;
        Ok(place)
    }

    /// WAL that is missing in front of the place where we begin shows by nothing that we receive: it is told.
    async fn tell_of_a_gap(&mut self, found: &Found, begin: Lsn) -> Result<()> {
        let path = found.path();
        for cluster in &found.clusters {
            let Some(gap) = presence::gap_before(cluster, &path, begin, found.size).await? else { continue };
            let mut outlook = found.outlook(found.path());
            if !outlook.over(&[gap]).await?.is_empty() {
                continue;
            }
            let text = format!(
                "WAL from {} to {} on timeline {} is missing in {}, and there is more behind it: archive it from pg_wal of any server that \
                 has it, or take a base backup now (highwater backup)",
                gap.from,
                gap.to,
                gap.timeline,
                cluster.repository().url()
            );
            self.note_alarm(found, Alarm { kind: Kind::Lost, gap, text }).await?;
        }
        Ok(())
    }

    /// The start of the oldest segment in the server's `pg_wal`, where we may look.
    async fn oldest_wal(&self, timeline: TimelineId, size: SegmentSize) -> Option<Lsn> {
        let query = format!(
            "SELECT min(name) FROM pg_catalog.pg_ls_waldir() WHERE name ~ '^{}[0-9A-F]{{16}}$'",
            timeline.hex()
        );
        let mut client = connect(&self.settings.connection, Mode::Sql).await.ok()?;
        let rows = client.query(&query).await.ok()?;
        let name: highwater_wal::SegmentName = rows.single().ok()?.text(0).ok()??.parse().ok()?;
        client.close().await;
        Some(name.start(size))
    }

    /// A place on a timeline with what the repositories have from there on.
    pub(crate) async fn place_on(&self, found: &Found, timeline: TimelineId, begin: Lsn) -> Result<Place> {
        let look = self.look_at(found, found.position);
        origin::place_on(&found.clusters, timeline, begin, look).await
    }

    fn look_at(&self, found: &Found, until: Lsn) -> Look {
        Look { size: found.size, check: self.settings.check, until }
    }

    /// What was in a repository and has gone from its end would not be missed otherwise: it is told. The server is asked for it again.
    async fn tell_of_a_lost_end(
        &mut self,
        found: &Found,
        way: &origin::Way,
        tops: &[(&ClusterRepository, TimelineId, Lsn)],
    ) -> Result<()> {
        for (cluster, timeline, top) in tops.iter().copied() {
            let marked = cluster.lost_behind(timeline, top, found.size).await?;
            let slot = Slot { restart: found.slot_restart, began: self.slot_began, timeline: found.timeline };
            let acknowledged = slot.acknowledged(way, timeline).filter(|known| *known > top);
            // By the slot alone nobody can tell what has gone from what was never received, where another hand has made it.
            let is_told = match marked {
                Some(_) => true,
                None if acknowledged.is_none() => false,
                None => {
                    let oldest = self.oldest_wal(found.timeline, found.size).await;
                    oldest.is_none_or(|oldest| oldest <= top)
                }
            };
            let Some(known) = marked.max(acknowledged).filter(|_| is_told) else { continue };
            let text = format!(
                "{} had WAL of timeline {timeline} up to {known} and has it up to {top} now: segments, or pieces of one, have gone \
                 from its end; the server is asked for them again",
                cluster.repository().url()
            );
            let gap = Gap { timeline, from: top, to: known };
            self.note_alarm(found, Alarm { kind: Kind::Gone, gap, text }).await?;
        }
        Ok(())
    }

    /// Tells of a loss, and leaves it in the audit trail, unless it was told.
    async fn note_alarm(&mut self, found: &Found, alarm: Alarm) -> Result<()> {
        if self.alarms.tell_of(&alarm) {
            return Ok(());
        }
        let event = alarm.event(&self.settings.cluster, &found.system_id.to_string());
        for cluster in &found.clusters {
            cluster.repository().note(&event).await?;
        }
        self.alarm(alarm);
        Ok(())
    }
}

/// A replication slot, as far as it tells what was acknowledged.
struct Slot {
    /// From where on the server keeps WAL for it.
    restart: Option<Lsn>,
    /// Where it began, where we have made it.
    began: Option<Lsn>,
    /// The timeline that the server is on.
    timeline: TimelineId,
}

impl Slot {
    /// Up to where a timeline's WAL was acknowledged by the slot's position alone. Not what another one's was, up to where that was left;
    /// nor where a new slot begins: nothing was acknowledged to that.
    fn acknowledged(&self, way: &origin::Way, timeline: TimelineId) -> Option<Lsn> {
        let before = way.iter().rev().skip_while(|(other, _)| *other != timeline).nth(1);
        let began = before.and_then(|(_, left_at)| *left_at).max(self.began);
        self.restart.filter(|restart| timeline == self.timeline && began.is_none_or(|began| *restart > began))
    }
}

fn refuse_clone(marker: &Marker) -> Result<()> {
    match marker.forbids_archiving() {
        true => Err(Error::Clone { origin: marker.cluster.to_string() }),
        false => Ok(()),
    }
}

async fn history(client: &mut Client, timeline: TimelineId) -> Result<Option<TimelineHistory>> {
    // Servers put it down as an error that the first one is asked for.
    if timeline == TimelineId::FIRST {
        return Ok(None);
    }
    let Some(file) = client.timeline_history(timeline).await? else { return Ok(None) };
    let parsed = TimelineHistory::parse(timeline, &file.content);
    Ok(Some(parsed.map_err(|error| highwater_replication::Error::Protocol { reason: error.to_string() })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_known_by_the_slot_of_the_timeline_that_is_lived_on() {
        let tli = |number| TimelineId::new(number).unwrap();
        let way = vec![(tli(1), Some(Lsn(500))), (tli(2), None)];
        for (restart, began, timeline, expected) in [
            (None, None, 2, None),
            (Some(700), None, 2, Some(700)),
            // Of the old timeline it says nothing, nor what was acknowledged while that was lived on.
            (Some(700), None, 1, None),
            (Some(500), None, 2, None),
            (Some(501), None, 2, Some(501)),
            // We have made it, and nothing was acknowledged since.
            (Some(700), Some(700), 2, None),
            (Some(701), Some(700), 2, Some(701)),
            (Some(450), Some(400), 2, None),
        ] {
            let slot = Slot { restart: restart.map(Lsn), began: began.map(Lsn), timeline: tli(2) };
            let acknowledged = slot.acknowledged(&way, tli(timeline));
            assert_eq!(acknowledged, expected.map(Lsn), "{restart:?} {began:?} {timeline}");
        }
    }
}
