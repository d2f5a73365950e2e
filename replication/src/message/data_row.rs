//! `DataRow`: a row of a result, as text.

use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;

use super::frame::broken;
use crate::{Error, Result};

/// The values of a row, in the order of the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRow {
    /// Each value in PostgreSQL's text form, `None` for NULL.
    pub values: Vec<Option<Bytes>>,
}

impl DataRow {
    pub(super) fn new(body: &DataRowBody) -> Result<DataRow> {
        let bytes = body.buffer_bytes();
        let values = body.ranges().map(|range| Ok(range.map(|range| bytes.slice(range))));
        Ok(DataRow { values: values.collect().map_err(broken)? })
    }

    /// The value of a column, counted from 0; `None` for NULL.
    ///
    /// # Errors
    /// [`Error::Protocol`] where the row has no such column.
    pub fn bytes(&self, column: usize) -> Result<Option<&Bytes>> {
        match self.values.get(column) {
            Some(value) => Ok(value.as_ref()),
            None => {
                let has = self.values.len();
                Err(Error::protocol(format!("a row has {has} columns, and number {} is needed", column + 1)))
            }
        }
    }

    /// The same as text.
    ///
    /// # Errors
    /// [`Error::Protocol`] where the row has no such column or its value is not UTF-8.
    pub fn text(&self, column: usize) -> Result<Option<&str>> {
        let text = self.bytes(column)?.map(|bytes| std::str::from_utf8(bytes));
        text.transpose()
            .map_err(|_| Error::protocol(format!("the value in column {} is not UTF-8", column + 1)))
    }

    /// A value that can be read from its text and is not NULL.
    ///
    /// # Errors
    /// [`Error::Protocol`] otherwise.
    pub fn parse<T: std::str::FromStr>(&self, column: usize) -> Result<T> {
        let value = self.text(column)?.and_then(|text| text.parse().ok());
        value.ok_or_else(|| {
            Error::protocol(format!("the value in column {} is not of the kind needed", column + 1))
        })
    }

    /// The bytes of all its values together.
    pub(crate) fn size(&self) -> usize {
        self.values.iter().flatten().map(Bytes::len).sum()
    }
}
