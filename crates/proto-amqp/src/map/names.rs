//! Names: as clients send them, as people read them, and those the server makes up.

use bytes::Bytes;

/// Makes names for queues and consumers that the client left empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    nonce: u64,
    made: u32,
}

impl Names {
    /// `nonce` are random bits of this connection.
    pub(crate) const fn new(nonce: u64) -> Self {
        Self { nonce, made: 0 }
    }

    /// The next name: `prefix` and 22 characters that carry 128 bits.
    pub(crate) fn next(&mut self, prefix: &str) -> Bytes {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        self.made = self.made.wrapping_add(1);
        let step = u64::from(self.made).wrapping_mul(2);
        let high = mixed(self.nonce, step);
        let low = mixed(self.nonce, step.wrapping_add(1));
        let mut bits = (u128::from(high) << 64) | u128::from(low);
        let mut name = prefix.as_bytes().to_vec();
        for _ in 0..22 {
            name.extend(LETTERS.get((bits & 63) as usize));
            bits >>= 6;
        }
        name.into()
    }
}

/// The `step`-th output of splitmix64 started at `seed`.
const fn mixed(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A copy of a name that the peer sent.
pub(crate) fn name(bytes: &[u8]) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(bytes) }
}

/// A copy without CR and LF, as for every declared thing.
/// Source: observed, `RabbitMQ` 3.10.8.
pub(crate) fn without_line_breaks(bytes: &[u8]) -> Bytes {
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        bytes.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
    } else {
        name(bytes)
    }
}

/// A name inside an error text: control characters made harmless, other bytes kept readable.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
