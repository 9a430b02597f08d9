//! Unpredictable bits from the operating system, drawn in pages so that a request costs none of
//! its own. Given to the pipeline (`replica::Entropy`) and to new connections.

/// Bytes drawn at once: a thousand numbers.
const PAGE: usize = 8192;

/// A source of unpredictable numbers.
///
/// # Errors
/// When the operating system has none to give; then the server must not start.
pub(crate) fn source() -> Result<replica::Entropy, getrandom::Error> {
    let mut page = draw()?;
    Ok(Box::new(move || {
        if let Some(bits) = page.pop() {
            return bits;
        }
        // It worked at the start; a system that stops giving bits is broken for good.
        page = draw().unwrap_or_else(|_| std::process::abort());
        page.pop().unwrap_or_default()
    }))
}

fn draw() -> Result<Vec<u64>, getrandom::Error> {
    let mut bytes = [0_u8; PAGE];
    getrandom::fill(&mut bytes)?;
    let (chunks, _) = bytes.as_chunks::<8>();
    Ok(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_do_not_repeat_over_pages() {
        let mut source = super::source().unwrap();
        let mut drawn: Vec<u64> = (0..5000).map(|_| source()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 5000);
    }
}
