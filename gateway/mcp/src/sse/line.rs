//! The parts of a line: which field it is and how far it has been read.

/// Where in a line the decoder is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// Before the end of the field's name.
    Head,
    /// In the value of a `data` field; `space` while a leading space may come.
    Data { space: bool },
    /// In the value of a short field; `space` as for `Data`.
    Short { field: Short, space: bool },
    /// In a comment or an unknown field.
    Ignored { comment: bool },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Comment,
    Data,
    Short(Short),
    Unknown,
}

impl Field {
    /// The field of a line that starts so, and the length of its name with the colon; `None` if
    /// that takes more bytes.
    pub(super) fn of_line(line: &[u8]) -> Option<(Self, usize)> {
        let start = line.get(..NAME_WITH_COLON).unwrap_or(line);
        match start.iter().position(|byte| *byte == b':') {
            Some(0) => Some((Self::Comment, 1)),
            Some(colon) => start.get(..colon).map(|name| (Self::of_name(name), colon + 1)),
            None if start.len() == NAME_WITH_COLON => Some((Self::Unknown, NAME_WITH_COLON)),
            None => None,
        }
    }

    pub(super) fn of_name(name: &[u8]) -> Self {
        match name {
            b"data" => Self::Data,
            b"event" => Self::Short(Short::Event),
            b"id" => Self::Short(Short::Id),
            b"retry" => Self::Short(Short::Retry),
            _ => Self::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Short {
    Event,
    Id,
    Retry,
}

impl Short {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Id => "id",
            Self::Retry => "retry",
        }
    }
}

/// The longest known names are `event` and `retry`.
const NAME_WITH_COLON: usize = 6;
