//! Bytes as hexadecimal digits. Performs no I/O.

/// Two lower-case digits a byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes; `None` for anything else.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_nothing_else_is_read() {
        let bytes: [u8; 4] = [0, 10, 127, 255];

        assert_eq!(encode(&bytes), "000a7fff");
        assert_eq!(decode(&encode(&bytes)), Some(bytes));
        for text in ["", "000a7f", "000a7fff00", "000a7ffg", "+00a7fff", "äöüä"] {
            assert_eq!(decode::<4>(text), None, "{text}");
        }
    }
}
