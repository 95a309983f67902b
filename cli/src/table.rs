//! A table as people read it: names of columns first, cells as wide as the widest of their column.
//! Owns only how it looks.

/// Between two columns.
const GAP: usize = 3;

/// Rows under the names of their columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { rows: vec![columns.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// Adds a row; a cell without text is shown as `-`.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.into_iter().map(|cell| if cell.is_empty() { "-".into() } else { cell }).collect());
    }

    /// Without any row below its columns' names.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The text; every line ends.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<w$}", w = width + GAP));
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_with_text() {
        let mut table = Table::new(&["NAME", "READY"]);
        assert!(table.is_empty());
        table.row(["a-long-name".into(), String::new()]);
        table.row(["b".into(), "yes".into()]);
        assert_eq!(table.text(), "NAME          READY\na-long-name   -\nb             yes\n");
        assert!(!table.is_empty());
    }
}
