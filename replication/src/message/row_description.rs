//! `RowDescription`: the columns of the rows that follow.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::RowDescriptionBody;

use super::frame::broken;
use crate::Result;

/// The columns of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDescription {
    /// Their names.
    pub columns: Vec<String>,
}

impl RowDescription {
    pub(super) fn new(body: &RowDescriptionBody) -> Result<RowDescription> {
        let columns = body.fields().map(|field| Ok(field.name().to_owned()));
        Ok(RowDescription { columns: columns.collect().map_err(broken)? })
    }
}
