//! The words of a line: numbers, names, suffixes, in both directions. Called by `codec`.

use bytes::{BufMut, Bytes};
use memchr::memchr;
use model::Ties;

use super::{BATCH_MAX, Command, Ids, Login, NAME_BYTES_MAX, Put, Tail};

/// Writes a number.
#[inline]
pub fn put_number(out: &mut impl BufMut, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut length = 0_usize;
    for digit in digits.iter_mut().rev() {
        *digit = b'0'.wrapping_add((number % 10) as u8);
        number /= 10;
        length = length.wrapping_add(1);
        if number == 0 {
            break;
        }
    }
    out.put_slice(digits.get(digits.len().wrapping_sub(length)..).unwrap_or_default());
}

pub(super) fn put_numbers(out: &mut impl BufMut, numbers: &[u64]) {
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            out.put_u8(b' ');
        }
        put_number(out, *number);
    }
}

pub(super) fn put_ties(out: &mut impl BufMut, ties: &Ties) {
    let mut word = |prefix: &[u8], key: &[u8], number: Option<u32>| {
        out.put_slice(prefix);
        out.put_slice(key);
        if let Some(number) = number {
            out.put_u8(b':');
            put_number(out, number.into());
        }
    };
    if let Some(key) = &ties.idempotency {
        word(b" idp:", key, (ties.idempotency_s > 0).then_some(ties.idempotency_s));
    }
    if let Some(key) = &ties.group {
        word(b" grp:", key, None);
    }
    if let Some(key) = &ties.after_group {
        word(b" aft:", key, None);
    }
    if let Some((key, count)) = &ties.concurrency {
        word(b" con:", key, (*count != 1).then_some(*count));
    }
}

/// Whether it may be the name of a tube.
#[must_use]
pub fn is_tube_name(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.first() != Some(&b'-')
        && name.iter().all(|byte| is_name_byte(*byte))
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'+' | b'/' | b';' | b'.' | b'$' | b'_' | b'(' | b')')
}

fn skip_spaces<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    while let [b' ', behind @ ..] = *rest {
        *rest = behind;
    }
    rest
}

/// A number and what follows it; nothing is taken when there is none or it is too large.
#[inline]
pub(super) fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut at = skip_spaces(rest);
    let (first, behind) = at.split_first().filter(|(first, _)| first.is_ascii_digit())?;
    let mut value = u64::from(first.wrapping_sub(b'0'));
    at = behind;
    while let [digit @ b'0'..=b'9', behind @ ..] = at {
        value = value.checked_mul(10)?.checked_add(digit.wrapping_sub(b'0').into())?;
        at = behind;
    }
    *rest = at;
    Some(value)
}

#[inline]
pub(super) fn number_u32(rest: &mut &[u8]) -> Option<u32> {
    number(rest).and_then(|number| number.try_into().ok())
}

/// A number that ends the line.
pub(super) fn last(rest: &mut &[u8]) -> Option<u64> {
    number(rest).filter(|_| rest.is_empty())
}

pub(super) fn last_u32(rest: &mut &[u8]) -> Option<u32> {
    last(rest).and_then(|number| number.try_into().ok())
}

pub(super) fn nothing<'a>(rest: &[u8], command: Command<'a>) -> Option<Command<'a>> {
    rest.is_empty().then_some(command)
}

/// What follows the number is not looked at. Source: `beanstalkd` 1.13, observed.
pub(super) fn timeout(rest: &mut &[u8]) -> Option<u32> {
    number_u32(rest).filter(|seconds| i32::try_from(*seconds).is_ok())
}

pub(super) fn count(rest: &mut &[u8]) -> Option<u32> {
    last_u32(rest).filter(|count| (1..=BATCH_MAX as u64).contains(&u64::from(*count)))
}

/// As `strtoul` reads it: white space, a sign, digits, anything; cut to 32 bits.
/// Source: `beanstalkd` 1.13, observed.
pub(super) fn bound(mut rest: &[u8]) -> Option<u32> {
    while let [b'\x0b' | b'\x0c' | b'\t' | b' ' | b'\r' | b'\n', behind @ ..] = rest {
        rest = behind;
    }
    let (is_negative, mut digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let value = number(&mut digits)?;
    let value = if is_negative { value.wrapping_neg() } else { value };
    u32::try_from(value & u64::from(u32::MAX)).ok()
}

pub(super) fn tube<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    is_tube_name(rest).then_some(*rest)
}

pub(super) fn pause<'a>(rest: &mut &'a [u8]) -> Option<Command<'a>> {
    let from = skip_spaces(rest);
    let length = from.iter().take_while(|byte| is_name_byte(**byte)).count();
    let (tube, mut behind) = from.split_at_checked(length)?;
    let delay_s = last_u32(&mut behind)?;
    is_tube_name(tube).then_some(Command::PauseTube { tube, delay_s })
}

pub(super) fn ids<'a>(rest: &mut &'a [u8]) -> Option<Ids<'a>> {
    let all = *rest;
    let mut count = 0_usize;
    while !skip_spaces(rest).is_empty() {
        number(rest).filter(|_| matches!(rest.first(), None | Some(b' ')))?;
        count = count.saturating_add(1);
    }
    (1..=BATCH_MAX).contains(&count).then_some(Ids(all))
}

pub(super) fn login<'a>(rest: &mut &'a [u8]) -> Option<Login<'a>> {
    let space = memchr(b' ', rest)?;
    let (user, password) = (rest.get(..space)?, rest.get(space.checked_add(1)?..)?);
    (!user.is_empty() && !password.is_empty()).then_some(Login { user, password })
}

pub(super) fn put(mut rest: &[u8]) -> Option<Put> {
    let rest = &mut rest;
    let (priority, delay_s) = (number_u32(rest)?, number_u32(rest)?);
    let (ttr_s, body_bytes) = (number_u32(rest)?, number_u32(rest)?);
    let tail = if rest.is_empty() { Tail::Nothing } else { tail(rest) };
    Some(Put { priority, delay_s, ttr_s, body_bytes, tail })
}

/// The suffixes of a `put`: ` idp:KEY[:SECONDS] grp:NAME aft:NAME con:KEY[:COUNT]`, in any order.
/// Source: the tuber server, `docs/protocol.md`.
///
/// Deviation(BEAN-009): these suffixes are read, where the original says `BAD_FORMAT`. When one of
/// them is malformed, the body is skipped before `BAD_FORMAT` is said.
#[cold]
fn tail(rest: &[u8]) -> Tail {
    if !rest.starts_with(b" ") {
        return Tail::Garbage;
    }
    let mut ties = Ties::default();
    let mut is_any = false;
    for word in rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
        if suffix(word, &mut ties).is_none() {
            return if is_any || is_suffix(word) { Tail::BadTies } else { Tail::Garbage };
        }
        is_any = true;
    }
    match (is_any, rest.ends_with(b" ")) {
        (false, _) => Tail::Garbage,
        (true, true) => Tail::BadTies,
        (true, false) => Tail::Ties(Box::new(ties)),
    }
}

fn is_suffix(word: &[u8]) -> bool {
    [&b"idp:"[..], b"grp:", b"aft:", b"con:"].iter().any(|prefix| word.starts_with(prefix))
}

fn suffix(word: &[u8], ties: &mut Ties) -> Option<()> {
    let (kind, value) = word.split_at_checked(4)?;
    let (key, number) = match memchr(b':', value) {
        None => (value, None),
        Some(at) => {
            let digits = value.get(at.checked_add(1)?..)?;
            let is_number = digits.iter().all(u8::is_ascii_digit);
            let number = is_number.then(|| last_u32(&mut &*digits))??;
            (value.get(..at)?, Some(number))
        }
    };
    let key = is_tube_name(key).then(|| Bytes::copy_from_slice(key))?;
    match (kind, number) {
        (b"idp:", seconds) => {
            ties.idempotency = Some(key);
            ties.idempotency_s = seconds.unwrap_or(0);
        }
        (b"grp:", None) => ties.group = Some(key),
        (b"aft:", None) => ties.after_group = Some(key),
        (b"con:", None) => ties.concurrency = Some((key, 1)),
        (b"con:", Some(count @ 1..)) => ties.concurrency = Some((key, count)),
        _ => return None,
    }
    Some(())
}
