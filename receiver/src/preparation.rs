//! What comes before a stream: which server this is, whether it may be received, and where to begin.

use std::time::Duration;

use highwater_replication::{Client, Mode, SlotName, connect};
use highwater_repository::{ClusterRepository, Event, Marker, Outcome};
use highwater_wal::{Lsn, SegmentSize, SystemId, TimelineHistory, TimelineId};

use crate::engine::Place;
use crate::error::{Error, Result};
use crate::origin;
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
    pub(crate) timeline: TimelineId,
    pub(crate) position: Lsn,
}

/// Where a repository ends: timeline, start of the segment that is not whole, end of its pieces.
type End = (TimelineId, Lsn, Lsn);

impl Receiver {
    /// Connects, and finds out where to begin.
    pub(crate) async fn prepare(&mut self) -> Result<(Client, Found, Place)> {
        let mut config = self.settings.connection.clone();
        config.application_name.get_or_insert_with(|| "highwater".to_owned());
        let mut client = connect(&config, Mode::Replication).await?;
        client.limits_mut().idle = SILENCE_LIMIT;
        let found = self.look(&mut client).await?;
        let place = self.place(&mut client, &found).await?;
        Ok((client, found, place))
    }

    /// Finds out which cluster this is and whether it may be received.
    async fn look(&mut self, client: &mut Client) -> Result<Found> {
        let identity = client.identify_system().await?;
        let system_id = identity.system_id;
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
        Ok(Found { system_id, size, clusters, slot_restart, timeline, position })
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

    /// From where on the server keeps WAL for us. A slot that keeps none, since it was never used or has lost what it kept, is of
    /// no use: it is made anew where slots are made.
    async fn slot(&self, client: &mut Client, slot: &SlotName) -> Result<Option<Lsn>> {
        let mut found = self.read_slot(client, slot).await?;
        if self.settings.create_slot
            && found.is_none_or(|found| found.is_physical && found.restart_lsn.is_none())
        {
            if found.is_some() {
                client.drop_slot(slot).await?;
            }
            client.create_physical_slot(slot).await?;
            found = self.read_slot(client, slot).await?;
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
    async fn place(&mut self, client: &mut Client, found: &Found) -> Result<Place> {
        let history = history(client, found.timeline).await?;
        let way = origin::way(found.timeline, history.as_ref());
        let (mut ends, mut later) = (Vec::new(), Vec::new());
        for cluster in &found.clusters {
            let mut kept = Vec::new();
            // The newest timeline of which there is anything decides.
            for (timeline, left_at) in way.iter().rev() {
                let has = origin::kept(cluster, *timeline, found.position, found.size).await?;
                let is_there = origin::go_on(&has, found.size).is_some();
                kept.insert(0, (*timeline, *left_at, has));
                if is_there {
                    break;
                }
            }
            ends.extend(origin::place(&kept, found.size));
            // What else is there is an end as well, where the pieces that come first lead nowhere.
            for (timeline, lsn) in &self.lost {
                origin::forget(&mut kept, *timeline, *lsn, found.size);
            }
            later.extend(origin::place(&kept, found.size));
        }
        // Of several repositories the one that ends first.
        let order = |timeline: TimelineId| way.iter().position(|(other, _)| *other == timeline);
        let first = |ends: Vec<End>| {
            ends.into_iter().min_by_key(|(timeline, begin, stored)| (order(*timeline), *begin, *stored))
        };
        let end = first(ends).unwrap_or_else(|| {
            let lsn = found.slot_restart.unwrap_or(found.position);
            let (timeline, begin) = origin::fresh(&way, lsn, found.size);
            (timeline, begin, begin)
        });
        let is_lost = |(timeline, begin, _): &End| self.lost.contains(&(*timeline, *begin));
        if !is_lost(&end) {
            return self.place_on(found, end.0, end.1).await;
        }
        let later = first(later).filter(|later| (order(later.0), later.1) > (order(end.0), end.1));
        match later {
            Some(later) if !is_lost(&later) => self.place_on(found, later.0, later.1).await,
            later => self.behind_the_hole(found, &way, later.unwrap_or(end)).await,
        }
    }

    /// Goes on behind WAL that the server no longer has, and tells of it.
    async fn behind_the_hole(&mut self, found: &Found, way: &origin::Way, end: End) -> Result<Place> {
        let (lost, from) = ((end.0, end.1), end.2);
        let oldest = self.oldest_wal(found.timeline, found.size).await;
        let kept_from = [found.slot_restart, oldest].into_iter().flatten().filter(|lsn| *lsn > lost.1).min();
        let (timeline, begin) = origin::fresh(way, kept_from.unwrap_or(found.position), found.size);
        let place = self.place_on(found, timeline, begin).await?;
        if self.told_lost != Some((lost, begin)) {
            let alarm = format!(
                "WAL from {from} to {begin} on timeline {} is lost: the server had removed it before it was received; take a \
                 base backup now (highwater backup)",
                lost.0
            );
            for cluster in &found.clusters {
                let event = Event::new("receive", Some(&self.settings.cluster), Outcome::Failed)
                    .with("reason", alarm.as_str())
                    .with("timeline", lost.0.get())
                    .with("lost_from", from.to_string())
                    .with("lost_to", begin.to_string());
                cluster.repository().note(&event).await?;
            }
            self.alarm(alarm);
            self.told_lost = Some((lost, begin));
        }
        Ok(place)
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
        origin::place_on(&found.clusters, timeline, begin, found.position, found.size).await
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
