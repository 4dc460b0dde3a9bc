//! Results on standard output: tables for people, JSON for programs.

use crate::error::CliError;
use crate::text::printable;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::{self, Write};

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; may change between releases.
    #[default]
    Text,
    /// For programs: one document, or one object a line where results stream.
    Json,
}

impl Format {
    /// Prints a result: the document, or what `text` makes of it.
    pub(crate) fn print(self, document: &Value, text: impl FnOnce() -> String) -> Result<(), CliError> {
        match self {
            Self::Json => print_text(&format!("{document:#}")),
            Self::Text => print_text(&printable(&text())),
        }
    }

    /// Prints one of many results: an object on a line, or a line of text.
    pub(crate) fn print_line(self, object: &Value, text: impl FnOnce() -> String) -> Result<(), CliError> {
        match self {
            Self::Json => print_text(&object.to_string()),
            Self::Text => print_text(&printable(&text())),
        }
    }
}

fn print_text(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let text = text.trim_end();
    let written = if text.is_empty() { Ok(()) } else { writeln!(out, "{text}") };
    written.and_then(|()| out.flush()).map_err(CliError::output)
}

/// A table without lines: column names in capitals, two spaces between columns. Columns whose place is in `numbers` are
/// aligned to the right.
pub(crate) fn table(columns: &[&str], numbers: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names and values, one pair a line, the values below one another.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default() + 2;
    let lines = pairs.iter().map(|(name, value)| format!("{:width$}{value}", format!("{name}:")).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_right_aligned_numbers() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long name".to_owned(), "100".to_owned()]];
        assert_eq!(table(&["name", "size"], &[1], rows), "NAME       SIZE\na             1\nlong name   100");
        assert_eq!(table(&["name"], &[], []), "NAME");
    }

    #[test]
    fn pairs_stand_below_one_another() {
        let text = pairs(&[("name", "x".to_owned()), ("digest", "y".to_owned()), ("none", String::new())]);
        assert_eq!(text, "name:   x\ndigest: y\nnone:");
    }
}
