//! Any messages in any order.

use bytes::Bytes;
use proptest::prelude::*;

use super::reply::Reply;
use super::*;
use crate::message::{DataRow, Message, RowDescription, TransactionStatus};

fn message() -> impl Strategy<Value = Message> {
    let value =
        prop_oneof![Just(None), "[0-9]{1,3}|0/[0-9A-F]{1,3}|/x".prop_map(|text| Some(Bytes::from(text)))];
    let data = prop_oneof![
        any::<Vec<u8>>(),
        Just(b"nbase.tar\0\0".to_vec()),
        Just(b"m".to_vec()),
        Just(b"p\0\0\0\0\0\0\0\0".to_vec()),
        any::<Vec<u8>>().prop_map(|bytes| [b"d".to_vec(), bytes].concat()),
    ];
    prop_oneof![
        Just(Message::RowDescription(RowDescription { columns: Vec::new() })),
        prop::collection::vec(value, 0..4).prop_map(|values| Message::DataRow(DataRow { values })),
        Just(Message::DataRow(DataRow { values: vec![Some("0/1".into()), Some("1".into())] })),
        Just(Message::DataRow(DataRow { values: vec![None, None, None] })),
        Just(Message::CommandComplete("SELECT".to_owned())),
        Just(Message::CopyOutResponse),
        data.prop_map(|bytes| Message::CopyData(bytes.into())),
        Just(Message::CopyDone),
        Just(Message::ReadyForQuery(TransactionStatus::Idle)),
    ]
}

proptest! {
    #[test]
    fn any_order_is_taken_or_refused(
        messages in prop::collection::vec(message(), 0..40),
        tagged in any::<bool>(),
        has_manifest in any::<bool>(),
    ) {
        let dialect = if tagged { Dialect::Tagged } else { Dialect::ByTablespace };
        let mut reply = Reply::new(dialect, has_manifest);
        let mut archives = 0;
        for message in messages {
            match reply.take(message) {
                Ok(Some(BackupEvent::Archive(_))) => archives += 1,
                Ok(Some(BackupEvent::Data(bytes))) => prop_assert!(archives > 0 && !bytes.is_empty()),
                Ok(_) => {}
                Err(_) => break,
            }
            // Whole means: every archive has come, and the position where it ends.
            if reply.is_done() {
                prop_assert!(reply.stop().is_some());
                prop_assert!(archives >= 1);
            }
        }
    }
}
