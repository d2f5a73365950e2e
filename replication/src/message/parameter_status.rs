//! `ParameterStatus`: a setting that the server reports without being asked.
//!
//! <https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-ASYNC>

use postgres_protocol::message::backend::ParameterStatusBody;

use super::frame::broken;
use crate::Result;

/// A setting and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterStatus {
    /// As `SHOW` has it.
    pub name: String,
    /// Its value now.
    pub value: String,
}

impl ParameterStatus {
    pub(super) fn new(body: &ParameterStatusBody) -> Result<ParameterStatus> {
        let name = body.name().map_err(broken)?.to_owned();
        Ok(ParameterStatus { name, value: body.value().map_err(broken)?.to_owned() })
    }
}
