//! Names of relations: put, listed, read back; damaged and foreign ones.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test a panic is the right answer, in its helpers too"
)]

mod common;

use common::{KINDS, Kind, Scratch};
use highwater_repository::{
    ClusterRepository, DatabaseNames, Error, NamesItem, NamesTaken, NamesWriter, RelationName,
};
use highwater_wal::{Lsn, TimelineId, Timestamp};

fn database(oid: u32, name: &str, unreadable: Option<&str>) -> DatabaseNames {
    DatabaseNames { oid, name: name.to_owned(), tablespace: 1663, unreadable: unreadable.map(str::to_owned) }
}

fn relation(number: u32, name: &str) -> RelationName {
    RelationName {
        oid: number,
        file: number,
        tablespace: 1663,
        schema: "public \"quoted\"".to_owned(),
        name: name.to_owned(),
        kind: 'i',
        persistence: 'u',
        table: Some(number - 1),
        partition_of: None,
    }
}

fn some(count: u32, at: i64) -> NamesTaken {
    let mut writer = NamesWriter::new().unwrap();
    writer.database(&database(0, "", None)).unwrap();
    writer.database(&database(5, "app", None)).unwrap();
    for number in 0..count {
        writer.relation(&relation(20_000 + number, &format!("ta\nble ü \u{7f} {number}"))).unwrap();
    }
    writer.database(&database(6, "closed", Some("it takes no connections"))).unwrap();
    writer.finish(Timestamp(at), TimelineId::FIRST, Lsn(0x100 + at as u64), Lsn(0x200), true).unwrap()
}

async fn items(cluster: &ClusterRepository, names: &NamesTaken) -> Result<Vec<NamesItem>, Error> {
    let mut reader = cluster.get_names(&names.id()).await?;
    assert_eq!(reader.head(), names.head());
    let mut items = Vec::new();
    while let Some(item) = reader.next()? {
        items.push(item);
    }
    Ok(items)
}

#[tokio::test]
async fn names_are_read_back() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        let (first, second) = (some(3, 1_000_000), some(3, 2_000_000));
        cluster.put_names(&second).await.unwrap();
        cluster.put_names(&first).await.unwrap();
        assert_eq!(cluster.list_names().await.unwrap(), [first.id(), second.id()]);
        assert!(first.id().tells_all_of(&second.id()), "the content is the same");
        assert!(!first.id().tells_all_of(&some(4, 3_000_000).id()));

        let head = cluster.names_head(&first.id()).await.unwrap();
        assert_eq!(&head, first.head());
        assert_eq!((head.databases, head.unreadable, head.relations), (2, 1, 3));
        let items = items(&cluster, &first).await.unwrap();
        assert_eq!(items.len(), 6);
        assert_eq!(items[3], NamesItem::Relation(relation(20_001, "ta\nble ü \u{7f} 1")));
        assert_eq!(items[5], NamesItem::Database(database(6, "closed", Some("it takes no connections"))));
    }
}

#[tokio::test]
async fn r07_damaged_names_are_told_and_none_of_them_handed_over_as_whole() {
    let scratch = Scratch::new(Kind::Lz4);
    let (store, cluster) = (&scratch.store, scratch.cluster());
    let names = some(40, 1_000_000);
    cluster.put_names(&names).await.unwrap();
    let (key, object) = common::only(store, "/names/");
    for at in 0..object.len() {
        let mut bytes = object.to_vec();
        bytes[at] ^= 0x10;
        store.spoil(&key, bytes);
        match items(&cluster, &names).await {
            Err(Error::Damaged { key: told, .. }) => assert_eq!(told, key),
            Err(Error::NewerFormat { .. }) => {}
            other => panic!("byte {at}: {other:?}"),
        }
    }
    for length in [0, 1, object.len() / 2, object.len() - 1] {
        store.spoil(&key, object.slice(..length));
        assert!(items(&cluster, &names).await.is_err_and(|error| error.is_damaged()), "{length} bytes");
    }
}

#[tokio::test]
async fn names_under_another_name_are_refused() {
    let scratch = Scratch::new(Kind::Lz4);
    let (store, cluster) = (&scratch.store, scratch.cluster());
    let (first, second) = (some(1, 1_000_000), some(2, 2_000_000));
    cluster.put_names(&first).await.unwrap();
    let (_, object) = common::only(store, "/names/");
    store.spoil(cluster.section().names_at(&second.id()).as_str(), object);
    let error = cluster.get_names(&second.id()).await.unwrap_err();
    assert!(error.is_damaged() && error.to_string().contains("than its name"), "{error}");
}

#[tokio::test]
async fn a_hundred_thousand_names_are_a_small_object() {
    let scratch = Scratch::new(Kind::Lz4);
    let (store, cluster) = (&scratch.store, scratch.cluster());
    let names = some(100_000, 1_000_000);
    cluster.put_names(&names).await.unwrap();
    let (_, object) = common::only(store, "/names/");
    assert!(object.len() < 2 << 20, "{} bytes", object.len());
    assert_eq!(items(&cluster, &names).await.unwrap().len(), 100_003);
}
