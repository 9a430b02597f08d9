//! Fills in every checksum of a file of the log anew, so that bytes bent by the input get past.
//!
//! Lives here: the same layouts as in `docs/internals/log.md`, read from outside; what does not
//! parse is left as it is. Not here: what the journal makes of the file.

const PAGE: usize = 4096;
const RECORD_HEAD: usize = 10;
const BLOCK_HEAD: usize = 64;
const FILE_HEAD: usize = 96;

/// Fills in the checksums of the file, whichever of the three kinds it is.
pub(crate) fn reseal(file: &mut [u8]) {
    if file.len() < PAGE {
        return;
    }
    match &file[..8] {
        b"POTGSEGM" => blocks(file),
        b"POTGSURV" => survivor(file),
        b"POTGCHKP" => {
            let body = file.get(PAGE..PAGE + number(file, 24)).map(crc32c::crc32c);
            put_u64(file, 32, body.unwrap_or_default().into());
        }
        _ => {}
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..FILE_HEAD]);
    put_u32(file, 12, crc);
}

/// A 64-bit number as a size; too large ones never fit a file.
fn number(file: &[u8], at: usize) -> usize {
    let bytes = file.get(at..at + 8).and_then(|bytes| bytes.first_chunk::<8>());
    let number = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    usize::try_from(number).unwrap_or(0).min(1 << 40)
}

fn u32_at(file: &[u8], at: usize) -> usize {
    let bytes = file.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

fn put_u32(file: &mut [u8], at: usize, value: u32) {
    if let Some(place) = file.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn put_u64(file: &mut [u8], at: usize, value: u64) {
    if let Some(place) = file.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Every block from the second page on, chained anew within the file.
fn blocks(file: &mut [u8]) {
    let salt = file[24..32].to_vec();
    let mut at = PAGE;
    let mut previous = None;
    while at + BLOCK_HEAD <= file.len() && &file[at..at + 4] == b"PBLK" {
        let bytes = u32_at(file, at + 32);
        let first = number(file, at + 16) as u64;
        let start = at + BLOCK_HEAD;
        let Some(records) = file.get_mut(start..start + bytes) else { return };
        let body = seal_records(records, first);
        put_u32(file, at + 40, body);
        if let Some(previous) = previous {
            put_u32(file, at + 44, previous);
        }
        let head = &file[at + 8..at + BLOCK_HEAD];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&salt), head);
        put_u32(file, at + 4, crc);
        previous = Some(crc);
        at += (BLOCK_HEAD + bytes).div_ceil(PAGE) * PAGE;
    }
}

/// Returns the checksum over the checksums.
fn seal_records(records: &mut [u8], first: u64) -> u32 {
    let (mut at, mut body) = (0, 0);
    while at + RECORD_HEAD <= records.len() {
        let payload = u32_at(records, at);
        let crc = record_crc(records, at, first.saturating_add(at as u64));
        let Some(crc) = crc else { break };
        put_u32(records, at + 4, crc);
        body = crc32c::crc32c_append(body, &crc.to_le_bytes());
        at += RECORD_HEAD + payload;
    }
    body
}

/// The checksum of the record whose frame starts at `at`; `None` when it does not fit.
fn record_crc(bytes: &[u8], at: usize, lsn: u64) -> Option<u32> {
    let payload = u32_at(bytes, at);
    let tail = bytes.get(at + 8..(at + RECORD_HEAD).checked_add(payload)?)?;
    let crc = crc32c::crc32c(&lsn.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[at..at + 4]);
    Some(crc32c::crc32c_append(crc, tail))
}

/// Entries of position and frame, then the index.
fn survivor(file: &mut [u8]) {
    let end = number(file, 56).min(file.len());
    let mut at = PAGE;
    while at + 8 + RECORD_HEAD <= end {
        let lsn = number(file, at) as u64;
        let Some(crc) = record_crc(&file[..end], at + 8, lsn) else { break };
        put_u32(file, at + 12, crc);
        at += 8 + RECORD_HEAD + u32_at(file, at + 8);
    }
    let index = file.get(end..end.saturating_add(number(file, 64).saturating_mul(16)));
    let crc = index.map(crc32c::crc32c).unwrap_or_default();
    put_u64(file, 72, crc.into());
}
