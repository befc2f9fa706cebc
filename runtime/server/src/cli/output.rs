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
    let seconds = ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day since 1970, by the algorithm of Howard Hinnant's `civil_from_days`: years begin in March, so that
/// the leap day is their last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
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

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ];
        for (ms, wanted) in cases {
            assert_eq!(time(ms), wanted);
        }
    }
}
