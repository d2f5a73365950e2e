//! What can be wrong with a WAL name, a number or a piece of WAL.

/// Everything this crate refuses. Each message names what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an LSN.
    #[error(
        "\"{0}\" is not an LSN; hint: PostgreSQL writes one as two hexadecimal numbers, as in 16/B374D848"
    )]
    Lsn(String),
    /// Not a timeline.
    #[error("\"{0}\" is not a timeline; hint: timelines are numbered from 1")]
    Timeline(String),
    /// Not a system identifier.
    #[error("\"{0}\" is not a system identifier; hint: pg_controldata shows it as a decimal number")]
    SystemId(String),
    /// Not a segment size that PostgreSQL allows.
    #[error("{0} bytes is not a WAL segment size; hint: it is a power of two from 1 MiB to 1 GiB")]
    SegmentSize(u64),
    /// Not the name of a WAL segment.
    #[error("\"{0}\" is not the name of a WAL segment; hint: it has 24 hexadecimal digits in capitals")]
    SegmentName(String),
    /// Not the name of a file that PostgreSQL archives.
    #[error(
        "\"{0}\" is not the name of a file in pg_wal that is archived; hint: a segment is named like 00000001000000000000002A, a history like 00000002.history"
    )]
    WalFile(String),
    /// Not a time.
    #[error("\"{0}\" is not a time; hint: it is written as in 2024-12-31T23:59:59.123456Z")]
    Timestamp(String),
    /// A line of a timeline history file that PostgreSQL would refuse too.
    #[error(
        "history of timeline {timeline}, line {line}: {expected}, found \"{text}\"; hint: compare the file with the one in the archive or on another server of the cluster"
    )]
    History {
        /// The timeline whose history it is.
        timeline: crate::TimelineId,
        /// The line's number, from 1.
        line: usize,
        /// The line.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
}
