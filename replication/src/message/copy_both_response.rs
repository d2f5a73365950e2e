//! `CopyBothResponse`: the server will send WAL and wants to hear of our progress.
//!
//! `postgres-protocol` does not know it. It is laid out as the other copy responses are: a byte for the format, the number
//! of columns, a format for each column.

use super::Message;
use crate::{Error, Result};

pub(super) const TAG: u8 = b'W';

pub(super) fn parse(body: &[u8]) -> Result<Message> {
    let [_, high, low, columns @ ..] = body else {
        return Err(Error::protocol("a CopyBothResponse that is too short"));
    };
    match columns.len() == 2 * usize::from(u16::from_be_bytes([*high, *low])) {
        true => Ok(Message::CopyBothResponse),
        false => Err(Error::protocol("a CopyBothResponse whose length does not fit its columns")),
    }
}
