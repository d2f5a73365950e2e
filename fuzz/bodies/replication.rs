//! What the fuzz targets of the crate `highwater-replication` do with their input.

use bytes::BytesMut;
use highwater_replication::message::{BackupMessage, Message, decode};
use highwater_replication::{Config, Environment};

/// No message of the input may be longer.
const LIMIT: usize = 1 << 16;

/// What a server sends, the first byte says in how long pieces it comes: cut anywhere it is the same messages.
pub fn messages(input: &[u8]) {
    let Some((&piece, stream)) = input.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    assert_eq!(whole, read(stream, 1 + usize::from(piece) * 3));
    for message in whole.0 {
        let Message::CopyData(bytes) = message else { continue };
        let length = bytes.len();
        if let Ok(BackupMessage::Data(content)) = BackupMessage::parse(bytes) {
            assert_eq!(content.len() + 1, length);
        }
    }
}

/// The messages in a stream that comes in such pieces, and whether it was refused behind them.
fn read(stream: &[u8], piece: usize) -> (Vec<Message>, bool) {
    let (mut messages, mut buffer) = (Vec::new(), BytesMut::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer, LIMIT) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.to_string().contains("hint: "), "{error}");
                    return (messages, true);
                }
            }
        }
    }
    (messages, false)
}

/// A connection string: no panic, and every refusal says what to do.
pub fn connection_strings(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // A service file would be read from this machine.
    if text.contains("service") {
        return;
    }
    let environment = Environment { os_user: Some("somebody".to_owned()), ..Environment::default() };
    match Config::in_environment(text, &environment) {
        Ok(config) => assert!(!config.servers.is_empty() && !config.user.is_empty()),
        Err(error) => assert!(error.to_string().contains("hint: "), "{error}"),
    }
}
