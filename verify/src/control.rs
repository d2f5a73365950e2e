//! What `global/pg_control` says of a cluster's pages (`pg_control.h`, PostgreSQL 14–18).

use crate::page::PAGE_BYTES;

/// Where `blcksz`, `relseg_size` and `data_checksum_version` lie: at the same place in all five versions.
const BLOCK_BYTES_AT: usize = 216;
const FILE_BLOCKS_AT: usize = 220;
const CHECKSUM_VERSION_AT: usize = 252;
/// `pg_control_version` lies behind the system identifier; 1300 is that of 14 to 16.
const VERSION_AT: usize = 8;
const VERSIONS: [u32; 3] = [1300, 1700, 1800];
/// The only way of making checksums that there is (`PG_DATA_CHECKSUM_VERSION`).
const CHECKSUM_VERSION: u32 = 1;

/// What has to be known of a cluster to look at its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// Blocks in one file of a relation; the next ones are in its next file.
    pub(crate) file_blocks: u32,
}

/// What can be proven of a cluster's pages, by its `pg_control`. The error says why nothing can be.
pub(crate) fn pages(control: &[u8]) -> Result<Pages, &'static str> {
    let number = |at: usize| {
        control.get(at..).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes))
    };
    let fields =
        (number(VERSION_AT), number(BLOCK_BYTES_AT), number(FILE_BLOCKS_AT), number(CHECKSUM_VERSION_AT));
    let (Some(version), Some(block_bytes), Some(file_blocks), Some(checksums)) = fields else {
        return Err("its pg_control is too short");
    };
    if !VERSIONS.contains(&version) {
        return Err("its pg_control is of a version that this program does not know");
    }
    match checksums {
        0 => return Err("the cluster had no data checksums"),
        CHECKSUM_VERSION => {}
        _ => return Err("its pages have checksums that this program does not know"),
    }
    if block_bytes as usize != PAGE_BYTES || file_blocks == 0 {
        return Err("its pages do not have 8 KiB");
    }
    Ok(Pages { file_blocks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_looked_at_only_where_they_are_known() {
        let mut control = vec![0; 8192];
        let put = |control: &mut Vec<u8>, at: usize, number: u32| {
            control[at..at + 4].copy_from_slice(&number.to_le_bytes());
        };
        put(&mut control, VERSION_AT, 1300);
        put(&mut control, BLOCK_BYTES_AT, 8192);
        put(&mut control, FILE_BLOCKS_AT, 131_072);
        assert!(pages(&control).unwrap_err().contains("no data checksums"));
        put(&mut control, CHECKSUM_VERSION_AT, 1);
        assert_eq!(pages(&control), Ok(Pages { file_blocks: 131_072 }));
        assert!(pages(&control[..200]).is_err());
        for (at, bad) in
            [(VERSION_AT, 1900), (BLOCK_BYTES_AT, 4096), (FILE_BLOCKS_AT, 0), (CHECKSUM_VERSION_AT, 2)]
        {
            let mut other = control.clone();
            put(&mut other, at, bad);
            assert!(pages(&other).is_err(), "{at}");
        }
    }
}
