//! The names of all objects, and what a name found in a listing means.
//!
//! ```text
//! highwater.json
//! keys/<id>
//! clusters/<name>/<system identifier>/cluster.json
//!                                    /wal/<timeline>/<file>
//!                                    /tail/<timeline>/<segment>/<from>-<to>, strip-<id>
//!                                    /reached/<timeline>/<lsn>
//!                                    /index/<timeline>/<log>
//!                                    /backups/<label>/started, parent, manifest, manifest.<n>, hold, expired, removing
//!                                    /packs/<2 hex>/<id>
//!                                    /names/<time>-<timeline>-<lsn>-<digest>
//! events/<time>-<id>
//! ```

use highwater_storage::Key;
use highwater_wal::{Lsn, SegmentName, SystemId, TimelineId, WalFile};

use crate::names::{ClusterName, EventId, Label, PackId};
use crate::relation_names::NamesId;
use crate::tail::{StripId, TailPiece};

/// Where the repository describes itself.
pub fn repository_facts() -> Key {
    key("highwater.json".to_owned())
}

/// Where identities lie that are wrapped by a passphrase; each name begins with this.
pub const WRAPPED_IDENTITIES: &str = "keys/";

/// Where an identity wrapped by a passphrase lies: named by the first half of the digest of its public key.
pub fn wrapped_identity(recipient: &str) -> Key {
    let digest = crate::Digest::of(recipient.as_bytes()).to_string();
    key(format!("{WRAPPED_IDENTITIES}{}", &digest[..32]))
}

/// What the folders of all clusters begin with.
pub const CLUSTERS: &str = "clusters/";

/// What the folders of all system identifiers of a cluster begin with.
pub fn systems(name: &ClusterName) -> String {
    format!("{CLUSTERS}{name}/")
}

/// What the names of all events begin with.
pub const EVENTS: &str = "events/";

/// Where an event lies. `time` is in UTC, as in `20260131T235959.123456Z`, so that names sort as events happened.
pub fn event(time: &str, id: EventId) -> Key {
    key(format!("{EVENTS}{time}-{id}"))
}

/// The part of the repository that belongs to one system identifier of a cluster, or to one series of snapshots:
/// it has backups and packs of its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Section(String);

impl Section {
    /// The part of a cluster.
    pub fn cluster(name: &ClusterName, system: SystemId) -> Section {
        Section(format!("{CLUSTERS}{name}/{system}"))
    }

    /// What all of its names begin with.
    pub(crate) fn all(&self) -> String {
        format!("{}/", self.0)
    }

    /// Where the cluster is described.
    pub fn cluster_facts(&self) -> Key {
        key(format!("{}/cluster.json", self.0))
    }

    /// Where a file of WAL lies.
    pub fn wal(&self, file: WalFile) -> Key {
        key(format!("{}{file}", self.wal_of(file.timeline())))
    }

    /// What the names of a timeline's files begin with.
    pub fn wal_of(&self, timeline: TimelineId) -> String {
        format!("{}{}/", self.wal_timelines(), timeline.hex())
    }

    /// What the names of the files of one log, 4 GiB of WAL, begin with.
    pub fn wal_of_log(&self, timeline: TimelineId, log: u32) -> String {
        let first = SegmentName { timeline, log, segment: 0 }.to_string();
        format!("{}{}", self.wal_of(timeline), &first[..16])
    }

    /// What the folders of all timelines begin with.
    pub fn wal_timelines(&self) -> String {
        format!("{}/wal/", self.0)
    }

    /// What the folders of all timelines with pieces of segments begin with.
    pub fn tail_timelines(&self) -> String {
        format!("{}/tail/", self.0)
    }

    /// What the folders of a timeline's segments with pieces begin with.
    pub fn tail_of(&self, timeline: TimelineId) -> String {
        format!("{}{}/", self.tail_timelines(), timeline.hex())
    }

    /// What the names of a segment's pieces begin with.
    pub fn tail_of_segment(&self, segment: SegmentName) -> String {
        format!("{}{segment}/", self.tail_of(segment.timeline))
    }

    /// Where a piece of a segment lies.
    pub fn tail_piece(&self, segment: SegmentName, from: u32, to: u32) -> Key {
        key(format!("{}{from:08X}-{to:08X}", self.tail_of_segment(segment)))
    }

    /// Where a strip of pieces of a segment lies.
    pub fn strip(&self, segment: SegmentName, id: StripId) -> Key {
        key(format!("{}{STRIP}{id}", self.tail_of_segment(segment)))
    }

    /// What the folders of all timelines with marks of how far their WAL was there begin with.
    pub fn reached(&self) -> String {
        format!("{}/reached/", self.0)
    }

    /// What the names of a timeline's marks begin with.
    pub fn reached_of(&self, timeline: TimelineId) -> String {
        format!("{}{}/", self.reached(), timeline.hex())
    }

    /// Where a mark lies.
    pub fn reached_at(&self, timeline: TimelineId, lsn: Lsn) -> Key {
        key(format!("{}{:016X}", self.reached_of(timeline), lsn.0))
    }

    /// What the names of all index objects begin with.
    pub fn indexes(&self) -> String {
        format!("{}/index/", self.0)
    }

    /// Where the summaries of all segments of one log lie together.
    pub fn index(&self, timeline: TimelineId, log: u32) -> Key {
        key(format!("{}{}/{log:08X}", self.indexes(), timeline.hex()))
    }

    /// What the folders of all backups begin with.
    pub fn backups(&self) -> String {
        format!("{}/backups/", self.0)
    }

    /// What the names of all objects of a backup begin with, but for its packs.
    pub fn backup(&self, label: &Label) -> String {
        format!("{}{label}/", self.backups())
    }

    /// What says that a backup was begun.
    pub fn started(&self, label: &Label) -> Key {
        key(format!("{}{label}/started", self.backups()))
    }

    /// What says that a backup is complete, and what is in it.
    pub fn manifest(&self, label: &Label) -> Key {
        key(format!("{}{label}/manifest", self.backups()))
    }

    /// A part of a manifest that was too long for one object; numbered from 1.
    pub fn manifest_part(&self, label: &Label, number: u32) -> Key {
        key(format!("{}{label}/manifest.{number}", self.backups()))
    }

    /// What says that a backup is to go: nothing new builds on it (R20).
    pub fn expired(&self, label: &Label) -> Key {
        key(format!("{}{label}/expired", self.backups()))
    }

    /// What the names of all objects of relation names begin with.
    pub fn names(&self) -> String {
        format!("{}/names/", self.0)
    }

    /// Where relation names lie.
    pub fn names_at(&self, id: &NamesId) -> Key {
        key(format!("{}{id}", self.names()))
    }

    /// What says which backup one that is being made takes extents over from.
    pub fn parent(&self, label: &Label) -> Key {
        key(format!("{}{label}/parent", self.backups()))
    }

    /// What says that a backup stays whatever the rules say (R19).
    pub fn hold(&self, label: &Label) -> Key {
        key(format!("{}{label}/hold", self.backups()))
    }

    /// What says that an expired backup is being removed.
    pub fn removing(&self, label: &Label) -> Key {
        key(format!("{}{label}/removing", self.backups()))
    }

    /// What the names of all packs begin with.
    pub fn packs(&self) -> String {
        format!("{}/packs/", self.0)
    }

    /// Where a pack lies.
    pub fn pack(&self, id: PackId) -> Key {
        let id = id.to_string();
        key(format!("{}{}/{id}", self.packs(), &id[..2]))
    }
}

/// The last part of a folder's name in a listing, read as what it should be; nothing where it is something else.
pub fn folder_name<T: std::str::FromStr>(folder: &str) -> Option<T> {
    folder.strip_suffix('/')?.rsplit('/').next()?.parse().ok()
}

/// What the names of strips begin with.
const STRIP: &str = "strip-";

/// What holds pieces of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TailObject {
    /// One piece.
    Piece(TailPiece),
    /// Any number of them.
    Strip(StripId),
}

/// What has this name in a listing of [`Section::tail_of_segment`].
pub fn tail_object_of(segment: SegmentName, name: &str) -> Option<TailObject> {
    match name.strip_prefix(STRIP) {
        Some(id) => id.parse().ok().map(TailObject::Strip),
        None => tail_piece_of(segment, name).map(TailObject::Piece),
    }
}

fn tail_piece_of(segment: SegmentName, name: &str) -> Option<TailPiece> {
    let (from, to) = name.split_once('-')?;
    let number = |digits: &str| {
        let number = u32::from_str_radix(digits, 16).ok()?;
        (format!("{number:08X}") == digits).then_some(number)
    };
    let piece = TailPiece::new(segment, number(from)?, number(to)?);
    (piece.from < piece.to).then_some(piece)
}

/// The timeline of a folder in a listing of [`Section::wal_timelines`].
pub fn timeline_of_folder(folder: &str) -> Option<TimelineId> {
    let digits: String = folder_name(folder)?;
    let number = TimelineId::new(u32::from_str_radix(&digits, 16).ok()?)?;
    (number.hex() == digits).then_some(number)
}

/// What a mark in a listing of [`Section::reached_of`] says. A mark of nothing is none.
pub fn lsn_of_mark(key: &Key) -> Option<Lsn> {
    let lsn = Lsn(u64::from_str_radix(key.name(), 16).ok()?);
    (lsn > Lsn::INVALID && format!("{:016X}", lsn.0) == key.name()).then_some(lsn)
}

/// The timeline and log of an index object's name in a listing of [`Section::indexes`].
pub fn log_of_index(key: &Key) -> Option<(TimelineId, u32)> {
    let mut parts = key.as_str().rsplit('/');
    let log = parts.next()?;
    let timeline = timeline_of_folder(&format!("{}/", parts.next()?))?;
    let number = u32::from_str_radix(log, 16).ok()?;
    (format!("{number:08X}") == log).then_some((timeline, number))
}

#[expect(
    clippy::expect_used,
    reason = "every part comes from a type that holds only characters a key may have, and the longest are tested below"
)]
fn key(text: String) -> Key {
    text.parse().expect("a key made of checked parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Section {
        Section::cluster(&"a".repeat(64).parse().unwrap(), SystemId(u64::MAX))
    }

    #[test]
    fn every_object_has_its_place() {
        let section = Section::cluster(&"main".parse().unwrap(), SystemId(7));
        let label: Label = "daily".parse().unwrap();
        let id: PackId = "00ff00000000000000000000000000ab".parse().unwrap();
        let table = [
            (repository_facts(), "highwater.json"),
            (section.cluster_facts(), "clusters/main/7/cluster.json"),
            (
                section.wal("0000000A0000000100000002".parse().unwrap()),
                "clusters/main/7/wal/0000000A/0000000A0000000100000002",
            ),
            (
                section.wal("0000000A0000000100000002.partial".parse().unwrap()),
                "clusters/main/7/wal/0000000A/0000000A0000000100000002.partial",
            ),
            (
                section.wal("0000000A0000000100000002.00000028.backup".parse().unwrap()),
                "clusters/main/7/wal/0000000A/0000000A0000000100000002.00000028.backup",
            ),
            (
                section.wal("0000000A.history".parse().unwrap()),
                "clusters/main/7/wal/0000000A/0000000A.history",
            ),
            (
                section.tail_piece("0000000A0000000100000002".parse().unwrap(), 0x100, 0x1F_FFFF),
                "clusters/main/7/tail/0000000A/0000000A0000000100000002/00000100-001FFFFF",
            ),
            (
                section
                    .strip("0000000A0000000100000002".parse().unwrap(), "00ff0000000000ab".parse().unwrap()),
                "clusters/main/7/tail/0000000A/0000000A0000000100000002/strip-00ff0000000000ab",
            ),
            (
                section.reached_at(TimelineId::FIRST, Lsn(0x1_0200_00AB)),
                "clusters/main/7/reached/00000001/00000001020000AB",
            ),
            (section.index(TimelineId::new(10).unwrap(), 0x1F), "clusters/main/7/index/0000000A/0000001F"),
            (section.started(&label), "clusters/main/7/backups/daily/started"),
            (section.manifest(&label), "clusters/main/7/backups/daily/manifest"),
            (section.manifest_part(&label, 12), "clusters/main/7/backups/daily/manifest.12"),
            (section.expired(&label), "clusters/main/7/backups/daily/expired"),
            (
                section.names_at(
                    &"20260131T235959.123456Z-0000000A-0000000100000028-00000000000000ff".parse().unwrap(),
                ),
                "clusters/main/7/names/20260131T235959.123456Z-0000000A-0000000100000028-00000000000000ff",
            ),
            (section.parent(&label), "clusters/main/7/backups/daily/parent"),
            (section.hold(&label), "clusters/main/7/backups/daily/hold"),
            (section.removing(&label), "clusters/main/7/backups/daily/removing"),
            (section.pack(id), "clusters/main/7/packs/00/00ff00000000000000000000000000ab"),
        ];
        for (key, text) in table {
            assert_eq!(key.as_str(), text);
        }
        let timeline = TimelineId::new(10).unwrap();
        assert_eq!(section.wal_of_log(timeline, 1), "clusters/main/7/wal/0000000A/0000000A00000001");
    }

    #[test]
    fn the_longest_names_still_make_keys() {
        let long: Label = "b".repeat(64).parse().unwrap();
        let file: WalFile = "FFFFFFFFFFFFFFFFFFFFFFFF.FFFFFFFF.backup".parse().unwrap();
        section().wal(file);
        section().manifest_part(&long, u32::MAX);
        section().pack(PackId::random());
        section().cluster_facts();
        wrapped_identity("age1");
        event("20260131T235959.123456Z", EventId::random());
    }

    #[test]
    fn folders_in_listings_are_read_back_and_strange_ones_passed_over() {
        assert_eq!(folder_name::<ClusterName>("clusters/main/").unwrap().as_str(), "main");
        assert_eq!(folder_name::<SystemId>("clusters/main/77/"), Some(SystemId(77)));
        assert_eq!(folder_name::<SystemId>("clusters/main/x/"), None);
        assert_eq!(timeline_of_folder("x/wal/0000000A/"), TimelineId::new(10));
        let segment = "0000000A0000000100000002".parse().unwrap();
        let piece = TailObject::Piece(TailPiece::new(segment, 0, 0xAB));
        assert_eq!(tail_object_of(segment, "00000000-000000AB"), Some(piece));
        let strip = TailObject::Strip("00ff0000000000ab".parse().unwrap());
        assert_eq!(tail_object_of(segment, "strip-00ff0000000000ab"), Some(strip));
        for strange in [
            "",
            "-",
            "0-AB",
            "00000000-000000ab",
            "000000AB-000000AB",
            "00000000-+00000AB",
            "00000000",
            "strip-",
            "strip-1",
        ] {
            assert_eq!(tail_object_of(segment, strange), None, "{strange}");
        }
        for strange in
            ["x/wal/0000000a/", "x/wal/A/", "x/wal/00000000/", "x/wal/+0000001/", "x/wal/0000000A", "/"]
        {
            assert_eq!(timeline_of_folder(strange), None, "{strange}");
        }
        let index = |text: &str| log_of_index(&text.parse().unwrap());
        assert_eq!(index("x/index/0000000A/0000001F"), Some((TimelineId::new(10).unwrap(), 0x1F)));
        for strange in ["x/index/0000000A/1F", "x/index/A/0000001F", "x/index/0000000A/0000001f", "0000001F"]
        {
            assert_eq!(index(strange), None, "{strange}");
        }
    }
}
