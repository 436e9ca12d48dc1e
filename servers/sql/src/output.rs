//! What an answer looks like, and where it ends.

/// How much of an answer is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// An answer as it grows; never much larger than its limits.
#[derive(Debug)]
pub(crate) struct Table {
    text: String,
    rows: usize,
    limits: Limits,
    cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Rows,
    Bytes,
}

impl Table {
    pub(crate) fn new<'a>(columns: impl Iterator<Item = &'a str>, limits: Limits) -> Self {
        let mut text = columns.collect::<Vec<_>>().join(SEPARATOR);
        let dashes = "-".repeat(text.chars().count());
        text.push('\n');
        text.push_str(&dashes);
        let mut table = Self { text, rows: 0, limits, cut: None };
        table.cut_to_size();
        table
    }

    /// False once there is no room for more.
    pub(crate) fn push(&mut self, cells: &[Option<String>]) -> bool {
        if self.cut.is_some() {
            return false;
        }
        if self.rows == self.limits.rows {
            self.cut = Some(Cut::Rows);
            return false;
        }
        self.rows += 1;
        for (index, cell) in cells.iter().enumerate() {
            self.text.push_str(if index == 0 { "\n" } else { SEPARATOR });
            self.text.push_str(cell.as_deref().unwrap_or("NULL"));
        }
        self.cut_to_size();
        self.cut.is_none()
    }

    pub(crate) fn finish(mut self) -> String {
        let Limits { rows, bytes } = self.limits;
        match self.cut {
            Some(Cut::Rows) => self.text.push_str(&format!(
                "\n[cut: these are the first {rows} rows, which is the most that is given. \
                 Narrow the query, or page through it with LIMIT and OFFSET.]"
            )),
            Some(Cut::Bytes) => self.text.push_str(&format!(
                "\n[cut: these are the first {bytes} bytes, which is the most that is given. \
                 Select fewer rows or columns, or parts of long values with substr.]"
            )),
            None if self.rows == 0 => return "(no rows)".to_owned(),
            None => {}
        }
        self.text
    }

    fn cut_to_size(&mut self) {
        if self.text.len() > self.limits.bytes {
            self.text.truncate(self.text.floor_char_boundary(self.limits.bytes));
            self.cut = Some(Cut::Bytes);
        }
    }
}

const SEPARATOR: &str = " | ";

#[cfg(test)]
mod tests {
    use super::*;

    fn table(limits: Limits, rows: &[[Option<&str>; 2]]) -> String {
        let mut table = Table::new(["id", "größe"].into_iter(), limits);
        for row in rows {
            if !table.push(&row.map(|cell| cell.map(str::to_owned))) {
                break;
            }
        }
        table.finish()
    }

    const ROOMY: Limits = Limits { rows: 3, bytes: 1000 };

    #[test]
    fn rows_stand_under_a_header_and_a_line_of_dashes() {
        let table = table(ROOMY, &[[Some("1"), Some("a")], [Some("2"), None]]);

        assert_eq!(table, "id | größe\n----------\n1 | a\n2 | NULL");
    }

    #[test]
    fn no_rows_are_said_to_be_none() {
        assert_eq!(table(ROOMY, &[]), "(no rows)");
    }

    #[test]
    fn a_row_too_many_is_left_out_and_told_of() {
        let row = [Some("1"), Some("a")];

        let full = table(ROOMY, &[row; 3]);
        let over = table(ROOMY, &[row; 4]);

        assert_eq!(full.lines().count(), 2 + 3);
        assert_eq!(over.lines().count(), 2 + 3 + 1);
        assert!(over.contains("[cut: these are the first 3 rows"), "{over}");
    }

    #[test]
    fn bytes_too_many_are_cut_between_two_characters_and_told_of() {
        let header = "id | größe\n----------".len();
        let limits = |bytes| Limits { rows: 3, bytes };
        let rows = [[Some("1"), Some("ü")], [Some("2"), Some("b")]];

        // The last byte allowed is the first half of the ü.
        let half = table(limits(header + "\n1 | ü".len() - 1), &rows);
        let whole = table(limits(header + "\n1 | ü".len()), &rows[..1]);
        let wide_header = table(limits(4), &[]);

        assert!(half.contains("----\n1 | \n[cut: these are the first"), "{half}");
        assert!(whole.ends_with("1 | ü"), "{whole}");
        assert!(
            wide_header.starts_with("id |\n[cut: these are the first 4 bytes"),
            "{wide_header}"
        );
    }
}
