//! `innkeeper predict`: calls a model and shows its answer.

use anyhow::Result;
use innkeeper_tensor::{Named, Tensor};
use serde_json::{Value, json};

use super::args::{Host, Predict};
use super::client::Client;
use super::infer::{ModelRef, Outcome, infer, metadata};
use super::{input, output, values};

/// Lines of a table that are shown of one tensor; `--json` shows all.
const ROWS_MAX: usize = 50;
/// Values that are shown in one line.
const COLUMNS_MAX: usize = 20;

pub(super) fn run(host: &Host, args: &Predict) -> Result<()> {
    let client = Client::new(host)?;
    let model = ModelRef::parse(&args.model);
    let metadata = metadata(&client, &model)?;
    let mut inputs = input::read(&args.input, &metadata.inputs)?;
    inputs.outputs.extend(args.output.iter().cloned());
    let outcome = infer(&client, &model, &inputs)?;
    if args.json {
        output::line(&as_json(outcome).to_string());
    } else {
        outcome.outputs.iter().for_each(|output| output::print(&as_table(output)));
    }
    Ok(())
}

/// The answer as the protocol's JSON; values that JSON has no number for are strings.
fn as_json(outcome: Outcome) -> Value {
    let Outcome { mut head, outputs } = outcome;
    let outputs = outputs.iter().map(|Named { name, tensor }| {
        json!({
            "name": name,
            "datatype": tensor.dtype().name(),
            "shape": tensor.shape().dims(),
            "data": values::elements(tensor),
        })
    });
    head["outputs"] = outputs.collect();
    head
}

/// A line that says what it is, then a line for each row of the last dimension.
fn as_table(output: &Named) -> String {
    let Named { name, tensor } = output;
    let dims = tensor.shape().dims();
    let mut text = format!("{name}  {}  {dims:?}\n", tensor.dtype().name());
    let cells: Vec<String> = values::elements(tensor).iter().map(cell).collect();
    let columns = columns(tensor);
    let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let rows = cells.chunks(columns.max(1));
    let left_out = rows.len().saturating_sub(ROWS_MAX);
    for row in rows.take(ROWS_MAX) {
        let shown = row.iter().take(COLUMNS_MAX).map(|cell| format!("{cell:>width$}"));
        let more = if row.len() > COLUMNS_MAX { "  ..." } else { "" };
        text.push_str(&format!("  {}{more}\n", shown.collect::<Vec<_>>().join("  ")));
    }
    if left_out > 0 {
        text.push_str(&format!("  ... {left_out} more rows; --json shows all\n"));
    }
    text
}

/// How many values stand in a line: a vector stands in one column, as the first dimension is the batch's.
fn columns(tensor: &Tensor) -> usize {
    match tensor.shape().dims() {
        [] | [_] => 1,
        [.., last] => *last,
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => output::one_line(text),
        Value::Number(number) if number.is_f64() => {
            let value = number.as_f64().unwrap_or(f64::NAN);
            let small = value != 0.0 && !(1e-4..1e7).contains(&value.abs());
            if small { format!("{value:.4e}") } else { format!("{value:.6}") }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(tensor: Tensor) -> Named {
        Named { name: "Y".into(), tensor }
    }

    #[test]
    fn tables_have_a_line_for_each_row() {
        let tensor = Tensor::from_vec(&[2, 2], vec![1f32, -0.5, 1e-9, 3.25]).unwrap();
        let wanted = "Y  FP32  [2, 2]\n   1.000000  -0.500000\n  1.0000e-9   3.250000\n";
        assert_eq!(as_table(&named(tensor)), wanted);
        let labels = Tensor::from_vec(&[2], vec![7i64, 10]).unwrap();
        assert_eq!(as_table(&named(labels)), "Y  INT64  [2]\n   7\n  10\n");
    }

    #[test]
    fn long_tensors_are_cut() {
        let text = as_table(&named(Tensor::from_vec(&[60, 30], vec![0u8; 1800]).unwrap()));
        assert!(text.contains("... 10 more rows"), "{text}");
        assert!(text.lines().all(|line| line.len() < 100), "{text}");
    }

    #[test]
    fn json_is_the_protocols() {
        let outputs = vec![named(Tensor::from_vec(&[2], vec![0.1f32, f32::NAN]).unwrap())];
        let outcome = Outcome { head: json!({"model_name": "m"}), outputs };
        let wanted = json!({"model_name": "m", "outputs":
            [{"name": "Y", "datatype": "FP32", "shape": [2], "data": [0.1, "NaN"]}]});
        assert_eq!(as_json(outcome), wanted);
    }
}
