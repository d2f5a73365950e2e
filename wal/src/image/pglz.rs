//! PostgreSQL's own compression (`pg_lzcompress.c`): a byte of eight flags, then for each flag a byte as it is, or two or
//! three bytes that say how many bytes to repeat from how far back.

/// The shortest repetition.
const MIN_LENGTH: usize = 3;
/// A repetition this long has another byte, with what is to be added.
const LONG: usize = 18;

/// Unpacks `packed` behind what is in `plain`, which gets at most `limit` bytes more; `None` where it isn't pglz data.
pub(super) fn decompress(packed: &[u8], limit: usize, plain: &mut Vec<u8>) -> Option<()> {
    let (begin, mut rest) = (plain.len(), packed);
    let limit = begin + limit;
    while let Some((flags, items)) = rest.split_first() {
        rest = items;
        if *flags == 0 && rest.len() >= 8 {
            let (literals, behind) = rest.split_at(8);
            plain.extend_from_slice(literals);
            rest = behind;
        } else {
            for bit in 0..8 {
                let Some((byte, behind)) = rest.split_first() else { break };
                rest = behind;
                if flags >> bit & 1 == 0 {
                    plain.push(*byte);
                } else {
                    repeat(*byte, &mut rest, begin, limit, plain)?;
                }
            }
        }
        if plain.len() > limit {
            return None;
        }
    }
    Some(())
}

/// A repetition that begins with the byte `head`.
fn repeat(head: u8, rest: &mut &[u8], begin: usize, limit: usize, plain: &mut Vec<u8>) -> Option<()> {
    let low = take(rest)?;
    let mut length = usize::from(head & 0x0F) + MIN_LENGTH;
    if length == LONG {
        length += usize::from(take(rest)?);
    }
    let back = usize::from(head & 0xF0) << 4 | usize::from(low);
    let from = plain.len().checked_sub(back).filter(|from| back > 0 && *from >= begin)?;
    if plain.len() + length > limit {
        return None;
    }
    if back >= length {
        plain.extend_from_within(from..from + length);
    } else {
        // It runs into what it makes.
        for at in from..from + length {
            plain.push(plain[at]);
        }
    }
    Some(())
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (byte, behind) = rest.split_first()?;
    *rest = behind;
    Some(*byte)
}
