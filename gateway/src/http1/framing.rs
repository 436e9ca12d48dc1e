//! What the headers of a message say of its body's end and of its connection.

use super::Malformed;

/// What the headers of a message say of its framing and of its connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Framing {
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
    /// `Connection: close`
    pub(crate) close: bool,
    /// `Connection: keep-alive`
    pub(crate) keep_alive: bool,
}

impl Framing {
    /// Takes note of a header. Tells whether it was one of the framing or the connection.
    pub(crate) fn note(&mut self, name: &str, value: &[u8]) -> Result<bool, Malformed> {
        // Most headers are none of these, and their length tells.
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => self.connection(value),
            14 if name.eq_ignore_ascii_case("content-length") => self.length(value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.encoding(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let length = digits(value).ok_or(Malformed::Length)?;
        // The same length twice is one length (RFC 9112 §6.3).
        if self.chunked || self.length.is_some_and(|known| known != length) {
            return Err(Malformed::Length);
        }
        self.length = Some(length);
        Ok(())
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.chunked || self.length.is_some() || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::Encoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// Whether another message may follow, by the version of this one.
    pub(crate) const fn persists(&self, minor_version: u8) -> bool {
        !self.close && (minor_version > 0 || self.keep_alive)
    }
}

/// Digits and nothing else: Rust's own parser takes a sign.
fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}
