//! Whether text is JSON (RFC 8259), and where the members of an object stand in it. Performs no I/O.

use super::{MAX_DEPTH, NotJson};

pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What an open bracket is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Object,
}

/// Brackets that are open, the last one in the lowest bit.
#[derive(Default)]
struct Open {
    depth: u16,
    objects: u64,
}

impl Open {
    fn push(&mut self, kind: Kind) -> Result<(), NotJson> {
        if self.depth == MAX_DEPTH {
            return Err(NotJson::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(kind == Kind::Object);
        Ok(())
    }

    const fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    const fn last(&self) -> Option<Kind> {
        match (self.depth, self.objects & 1) {
            (0, _) => None,
            (_, 0) => Some(Kind::Array),
            _ => Some(Kind::Object),
        }
    }
}

/// From where to before where.
type Span = (usize, usize);

/// Reads JSON text (RFC 8259) that is known to be UTF-8.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn of(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0 }
    }

    /// One value and nothing else. Tells where the members of an object stand: key and value.
    pub(super) fn document(mut self, mut member: impl FnMut(Span, Span)) -> Result<(), NotJson> {
        let mut open = Open::default();
        // Of the member of the outermost object that is being read.
        let (mut key, mut value) = ((0, 0), 0);
        self.space();
        loop {
            // A value is due, or the end of what was just opened.
            if open.depth == 1 {
                value = self.at;
            }
            match self.take() {
                Some(b'"') => self.string()?,
                Some(b'{') => {
                    open.push(Kind::Object)?;
                    self.space();
                    if self.peek() != Some(b'}') {
                        let found = self.key()?;
                        if open.depth == 1 {
                            key = found;
                        }
                        continue;
                    }
                    self.at += 1;
                    open.pop();
                }
                Some(b'[') => {
                    open.push(Kind::Array)?;
                    self.space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                    self.at += 1;
                    open.pop();
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.at -= 1;
                    self.number()?;
                }
                Some(b't') => self.word(b"rue")?,
                Some(b'f') => self.word(b"alse")?,
                Some(b'n') => self.word(b"ull")?,
                _ => return Err(self.before()),
            }
            // What follows a value, until the next one is due.
            loop {
                if open.depth == 1 && open.last() == Some(Kind::Object) {
                    member(key, (value, self.at));
                }
                self.space();
                match (open.last(), self.take()) {
                    (None, None) => return Ok(()),
                    (Some(Kind::Object), Some(b',')) => {
                        self.space();
                        let found = self.key()?;
                        if open.depth == 1 {
                            key = found;
                        }
                        break;
                    }
                    (Some(Kind::Array), Some(b',')) => {
                        self.space();
                        break;
                    }
                    (Some(Kind::Object), Some(b'}')) | (Some(Kind::Array), Some(b']')) => {
                        open.pop();
                    }
                    (_, Some(_)) => return Err(self.before()),
                    (Some(_), None) => return Err(NotJson::Malformed(self.at)),
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// The byte that was taken last is wrong; or, if there was none, it is missing.
    const fn before(&self) -> NotJson {
        NotJson::Malformed(self.at.saturating_sub(1))
    }

    /// A key and its colon, up to where the value is due. Tells where the key stands.
    fn key(&mut self) -> Result<Span, NotJson> {
        let start = self.at;
        self.expect(b'"')?;
        self.string()?;
        let end = self.at;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok((start, end))
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return Err(NotJson::Malformed(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), NotJson> {
        if !self.bytes.get(self.at..).is_some_and(|bytes| bytes.starts_with(rest)) {
            return Err(NotJson::Malformed(self.at));
        }
        self.at += rest.len();
        Ok(())
    }

    /// The rest of a string whose quote was taken.
    fn string(&mut self) -> Result<(), NotJson> {
        loop {
            self.plain();
            match self.take() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.before()),
                None => return Err(NotJson::Malformed(self.at)),
            }
        }
    }

    /// Skips what stands for itself.
    fn plain(&mut self) {
        self.at = end_of_plain(self.bytes, self.at);
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        match self.take() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<4>);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(NotJson::Malformed(self.at));
                }
                self.at += 4;
                Ok(())
            }
            _ => Err(self.before()),
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.take() {
            Some(b'0') => {}
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.before()),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit()?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit()?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self) -> Result<(), NotJson> {
        match self.take() {
            Some(b'0'..=b'9') => Ok(()),
            _ => Err(self.before()),
        }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

/// Where something stands that is not for itself in a string: a quote, a backslash or a control; looked
/// for eight bytes at a time.
fn end_of_plain(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special(u64::from_le_bytes(*eight));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let stands = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(stands).unwrap_or(rest.len())
}

/// Index of the quote that ends the string whose text begins at `at`, or the end of the bytes. For text
/// that was read before.
pub(crate) fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = end_of_plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') | None => return at.min(bytes.len()),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The highest bit of each byte that is a quote, a backslash or a control; above the lowest of them
/// there may be others.
const fn special(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const fn zeros(bytes: u64) -> u64 {
        bytes.wrapping_sub(ONES) & !bytes
    }
    let controls = eight.wrapping_sub(ONES * b' ' as u64) & !eight;
    let quotes = zeros(eight ^ (ONES * b'"' as u64));
    let backslashes = zeros(eight ^ (ONES * b'\\' as u64));
    (controls | quotes | backslashes) & (ONES * 0x80)
}
