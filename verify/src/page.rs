//! A page of a relation file and its checksum (`checksum_impl.h`, `bufpage.h`; PostgreSQL 14–18).

use highwater_wal::Lsn;

/// Bytes in a page. Servers can be built with others; their pages are not looked at.
pub(crate) const PAGE_BYTES: usize = 8192;
/// As many sums run side by side (`N_SUMS`).
const SUMS: usize = 32;
/// `FNV_PRIME`.
const PRIME: u32 = 16_777_619;
/// Where `pd_checksum` lies.
const CHECKSUM_AT: usize = 8;
/// Where `pd_upper` lies.
const UPPER_AT: usize = 14;

/// What the sums begin with (`checksumBaseOffsets`).
const BASES: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What is found of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageState {
    /// It has the right checksum, or is new and has none yet (`PageIsNew`).
    Right,
    /// Its checksum is wrong. With the position of the record that changed it last, as it says.
    Wrong { lsn: Lsn },
}

/// Looks at a page of [`PAGE_BYTES`] that is block `block` of its relation's fork.
pub(crate) fn look(page: &[u8], block: u32) -> PageState {
    // As pg_basebackup does: a page without pd_upper is new, and nothing was put into it yet.
    if number::<2>(page, UPPER_AT) == 0 || number::<2>(page, CHECKSUM_AT) == u64::from(checksum(page, block))
    {
        return PageState::Right;
    }
    PageState::Wrong { lsn: Lsn(number::<4>(page, 0) << 32 | number::<4>(page, 4)) }
}

/// The checksum that a page should have (`pg_checksum_page`).
pub(crate) fn checksum(page: &[u8], block: u32) -> u16 {
    let mut sums = BASES;
    let mut row = [0_u32; SUMS];
    for (index, bytes) in page.chunks_exact(SUMS * 4).enumerate() {
        for (word, bytes) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        if index == 0 {
            // The checksum's own place counts as zeros.
            row[CHECKSUM_AT / 4] &= 0xFFFF_0000;
        }
        round(&mut sums, &row);
    }
    for _ in 0..2 {
        round(&mut sums, &[0; SUMS]);
    }
    let mixed = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    (mixed % 65_535 + 1) as u16
}

fn round(sums: &mut [u32; SUMS], row: &[u32; SUMS]) {
    for (sum, word) in sums.iter_mut().zip(row) {
        let mixed = *sum ^ word;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

fn number<const N: usize>(page: &[u8], at: usize) -> u64 {
    page.get(at..at + N).unwrap_or_default().iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_page_has_no_checksum_and_every_bit_of_another_counts() {
        let mut page = vec![0; PAGE_BYTES];
        assert_eq!(look(&page, 7), PageState::Right);
        page[0..8].copy_from_slice(&[1, 0, 0, 0, 0x28, 0, 0, 2]);
        page[UPPER_AT] = 0xE0;
        let right = checksum(&page, 7).to_le_bytes();
        page[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&right);
        assert_eq!(look(&page, 7), PageState::Right);
        assert_eq!(look(&page, 8), PageState::Wrong { lsn: Lsn(0x1_0200_0028) });
        for at in [0, 9, 20, 4096, PAGE_BYTES - 1] {
            page[at] ^= 0x10;
            assert_ne!(look(&page, 7), PageState::Right, "{at}");
            page[at] ^= 0x10;
        }
    }
}
