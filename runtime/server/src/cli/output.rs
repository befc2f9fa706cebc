//! What people read: tables, progress, one-line errors.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Writes to standard output. A reader that has gone, such as `head`, is no error.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(harmless(text).as_bytes()).and_then(|()| out.flush());
}

/// As [`print`], with a line's end.
pub(super) fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// Writes a text that takes the place of the one before on a terminal, and else stands behind it.
pub(super) fn again(text: &str) {
    let mut out = std::io::stdout().lock();
    let head = if out.is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let tail = if out.is_terminal() { "" } else { "\n" };
    let _ = write!(out, "{head}{}{tail}", harmless(text)).and_then(|()| out.flush());
}

/// Says on standard error why the command ends.
pub(super) fn error(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {}", harmless(&format!("{error:#}")));
}

/// The text with its control characters escaped, but for the ends of lines: a model's words must not move the cursor
/// or change the colours of whoever reads them.
fn harmless(text: &str) -> String {
    escaped(text, |char| !matches!(char, '\n' | '\t'))
}

/// The text with every control character escaped, so that it is one line.
pub(super) fn one_line(text: &str) -> String {
    escaped(text, |_| true)
}

fn escaped(text: &str, also: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && also(char) {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// Columns as wide as they need to be, under a head.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A spinner on a terminal; elsewhere the line that says what is done.
pub(super) fn spinner(doing: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{doing}");
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(doing.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A bar of bytes on a terminal; elsewhere the line that says what is sent.
pub(super) fn bar(doing: &str, bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{doing} ({})", size(bytes));
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes).with_message(doing.to_owned());
    let style = "{msg} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A time in milliseconds since 1970 as UTC, to the second.
pub(super) fn time(ms: i64) -> String {
    innkeeper_catalog::utc(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "1".into()], vec!["längst".into(), "22".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       1\nlängst  22\n");
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        let text = "a\n\tb\u{1b}[31m\r\u{9b}\u{fc}";
        assert_eq!(harmless(text), "a\n\tb\\u{1b}[31m\\r\\u{9b}\u{fc}");
        assert_eq!(one_line(text), "a\\n\\tb\\u{1b}[31m\\r\\u{9b}\u{fc}");
    }
}
