//! What a server says: one file for each kind of message.
//!
//! <https://www.postgresql.org/docs/18/protocol-message-formats.html>
//!
//! Nothing here does I/O, and no bytes from outside can make it panic. The shape of the messages is `postgres-protocol`'s
//! work; here is what it lacks (a bound on their length, `CopyBothResponse`) and what they mean to us.

mod authentication;
mod copy_both_response;
mod copy_data;
mod data_row;
mod error_response;
mod frame;
mod parameter_status;
mod ready_for_query;
mod row_description;
mod stream_message;

pub use authentication::Authentication;
pub use copy_data::BackupMessage;
pub use data_row::DataRow;
pub use error_response::ServerError;
pub use frame::decode;
pub use parameter_status::ParameterStatus;
pub use ready_for_query::TransactionStatus;
pub use row_description::RowDescription;
pub use stream_message::{StandbyStatus, StreamMessage};

use bytes::Bytes;

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// How to prove who we are, or that we have.
    Authentication(Authentication),
    /// The number of the server process that serves us.
    BackendKeyData {
        /// As `pg_stat_activity.pid` has it.
        process_id: i32,
    },
    /// A command is done; its tag.
    CommandComplete(String),
    /// The server will send WAL and wants to hear of our progress.
    CopyBothResponse,
    /// A piece of a copy.
    CopyData(Bytes),
    /// The copy is whole.
    CopyDone,
    /// The server wants data from us.
    CopyInResponse,
    /// The server will send data.
    CopyOutResponse,
    /// A row of a result.
    DataRow(DataRow),
    /// A query without a command in it.
    EmptyQueryResponse,
    /// A command failed.
    ErrorResponse(Box<ServerError>),
    /// Something that the server finds worth saying.
    NoticeResponse(Box<ServerError>),
    /// A `NOTIFY` of somebody.
    NotificationResponse,
    /// A setting that the server reports without being asked.
    ParameterStatus(ParameterStatus),
    /// The server is ready for the next command.
    ReadyForQuery(TransactionStatus),
    /// The columns of the rows that follow.
    RowDescription(RowDescription),
}

impl Message {
    /// The protocol's name for this kind of message.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Authentication(_) => "Authentication",
            Message::BackendKeyData { .. } => "BackendKeyData",
            Message::CommandComplete(_) => "CommandComplete",
            Message::CopyBothResponse => "CopyBothResponse",
            Message::CopyData(_) => "CopyData",
            Message::CopyDone => "CopyDone",
            Message::CopyInResponse => "CopyInResponse",
            Message::CopyOutResponse => "CopyOutResponse",
            Message::DataRow(_) => "DataRow",
            Message::EmptyQueryResponse => "EmptyQueryResponse",
            Message::ErrorResponse(_) => "ErrorResponse",
            Message::NoticeResponse(_) => "NoticeResponse",
            Message::NotificationResponse => "NotificationResponse",
            Message::ParameterStatus(_) => "ParameterStatus",
            Message::ReadyForQuery(_) => "ReadyForQuery",
            Message::RowDescription(_) => "RowDescription",
        }
    }
}
