//! The body of every message of a run: who it is, and a checksum over all of it, so that whatever
//! reaches a client proves itself.
//!
//! | offset | size | type | meaning |
//! |---|---|---|---|
//! | 0 | 4 | u32 | message |
//! | 4 | 4 | u32 | job, or all ones |
//! | 8 | 4 | u32 | bytes of the whole body |
//! | 12 | n | bytes | filling that follows from the message's number |
//! | 12 + n | 8 | u64 | FNV-1a of everything before |
//!
//! All little endian. Written by `io`, read by `io`; only this crate ever sees one.

use std::hash::Hasher;

use crate::dice::{Dice, Fnv};
use crate::fact::MessageId;

/// Bytes around the filling.
pub(crate) const FRAME_BYTES: usize = 20;
/// Stands for no job.
const NO_JOB: u32 = u32::MAX;

/// Writes a body of so many bytes.
pub(crate) fn write(message: MessageId, job: Option<u32>, bytes: usize) -> Vec<u8> {
    let bytes = bytes.max(FRAME_BYTES);
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(&message.to_le_bytes());
    body.extend_from_slice(&job.unwrap_or(NO_JOB).to_le_bytes());
    body.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes());
    let mut dice = Dice::new(u64::from(message));
    while body.len() < bytes - 8 {
        let left = bytes - 8 - body.len();
        let filling = dice.roll().to_le_bytes();
        body.extend_from_slice(filling.get(..left.min(8)).unwrap_or_default());
    }
    let sum = checksum(&body);
    body.extend_from_slice(&sum.to_le_bytes());
    body
}

/// Reads a body; the error says what is wrong with it.
pub(crate) fn read(body: &[u8]) -> Result<(MessageId, Option<u32>), &'static str> {
    let (content, sum) = body.split_last_chunk::<8>().ok_or("shorter than its checksum")?;
    if checksum(content) != u64::from_le_bytes(*sum) {
        return Err("the checksum does not match");
    }
    let (&[m0, m1, m2, m3, j0, j1, j2, j3, l0, l1, l2, l3], _) =
        content.split_first_chunk::<12>().ok_or("shorter than its head")?;
    if u32::from_le_bytes([l0, l1, l2, l3]) as usize != body.len() {
        return Err("it has another length than it was sent with");
    }
    let job = u32::from_le_bytes([j0, j1, j2, j3]);
    Ok((u32::from_le_bytes([m0, m1, m2, m3]), (job != NO_JOB).then_some(job)))
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut fnv = Fnv::default();
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        fnv.write_u64(<[u8; 8]>::try_from(word).map_or(0, u64::from_le_bytes));
    }
    fnv.write(words.remainder());
    fnv.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_proves_itself_and_every_flipped_bit_is_found() {
        for bytes in [0, 20, 21, 64, 333] {
            let body = write(7, Some(9), bytes);
            assert_eq!(body.len(), bytes.max(FRAME_BYTES));
            assert_eq!(read(&body), Ok((7, Some(9))));
            for bit in 0..body.len() * 8 {
                let mut damaged = body.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&damaged).is_err(), "bit {bit} of {bytes} bytes");
            }
            assert!(read(&body[..body.len() - 1]).is_err());
        }
    }
}
