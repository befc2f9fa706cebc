//! Curves in a terminal.

use std::collections::BTreeMap;

const HEIGHT: usize = 10;
const WIDTH: usize = 60;
/// What each curve is drawn with, in the order of their names.
const MARKS: [char; 4] = ['*', 'o', '+', 'x'];

/// The curves over the same range, from their first value to their last.
pub(super) fn drawn(curves: &BTreeMap<&str, Vec<f64>>) -> String {
    let finite = curves.values().flatten().copied().filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return String::new();
    }
    let span = if high > low { high - low } else { 1.0 };
    let mut grid = vec![[' '; WIDTH]; HEIGHT];
    for (values, mark) in curves.values().zip(MARKS) {
        for (column, value) in (0..WIDTH).filter_map(|column| Some((column, at(values, column)?))) {
            let row = ((high - value) / span * (HEIGHT - 1) as f64).round() as usize;
            grid[row.min(HEIGHT - 1)][column] = mark;
        }
    }
    let mut text = String::from("\n");
    for (row, line) in grid.iter().enumerate() {
        let label = match row {
            0 => format!("{high:.4}"),
            _ if row == HEIGHT - 1 => format!("{low:.4}"),
            _ => String::new(),
        };
        let line: String = line.iter().collect();
        text += &format!("{label:>12} |{}\n", line.trim_end());
    }
    let names = curves.keys().zip(MARKS).map(|(name, mark)| format!("{mark} {name}"));
    text += &format!(
        "{:>12} +{}\n{:>14}{}\n",
        "",
        "-".repeat(WIDTH),
        "",
        names.collect::<Vec<_>>().join("   ")
    );
    text
}

/// The value under a column of the drawing.
fn at(values: &[f64], column: usize) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let value = values[(column * last + (WIDTH - 1) / 2) / (WIDTH - 1)];
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_from_its_first_value_to_its_last() {
        let curves = BTreeMap::from([("loss", vec![4.0, 3.0, 2.0, 1.0])]);
        let text = drawn(&curves);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert!(lines[0].starts_with("      4.0000 |*"), "{text}");
        assert!(lines[HEIGHT - 1].starts_with("      1.0000 |"), "{text}");
        assert_eq!(lines[HEIGHT - 1].chars().last(), Some('*'));
        assert!(lines[HEIGHT + 1].ends_with("* loss"), "{text}");
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        assert_eq!(drawn(&BTreeMap::from([("loss", vec![f64::NAN])])), "");
        drawn(&BTreeMap::from([("loss", vec![f64::NAN, 1.0, 1.0])]));
    }
}
