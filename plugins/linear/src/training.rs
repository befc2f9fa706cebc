//! Training: normal equations in one pass, or steps of gradient descent.

use innkeeper_sdk::train::{Linear, Module, Optimizer, Random, Sgd, Var, without_gradients};
use innkeeper_sdk::trainer::{
    Files, Hyperparameter, Metrics, Plan, Position, Task, Trainer, restored, saved,
};
use innkeeper_sdk::{DType, Error, Inputs, Outputs, Result, Tensor};

use crate::WEIGHTS;
use crate::solve::solve;

/// More features than that have normal equations that take too long.
const FEATURES_MAX: usize = 1_000;

pub struct Training {
    features: usize,
    solver: Solver,
}

enum Solver {
    /// Sums of x x^T and x y over all rows, with a 1 beside each x, `[features + 1, features + 1]` and
    /// `[features + 1, 1]` in FP64.
    Normal {
        squares: Tensor,
        products: Tensor,
        ridge: f64,
    },
    Descent {
        line: Linear,
        sgd: Sgd,
    },
}

#[innkeeper_sdk::trainer]
impl Trainer for Training {
    fn hyperparameters() -> Vec<Hyperparameter> {
        vec![
            Hyperparameter::text("target", "The column to be learnt; else the last.", ""),
            Hyperparameter::text(
                "features",
                "The columns to learn from, with commas; else all others.",
                "",
            ),
            Hyperparameter::choice(
                "solver",
                "normal: normal equations, in one epoch; gd: steps over all rows; sgd: over mini-batches.",
                &["normal", "gd", "sgd"],
                "normal",
            ),
            Hyperparameter::number(
                "ridge",
                "What normal equations add to the squares.",
                0.0..=1e9,
                0.0,
            ),
            Hyperparameter::number("learning_rate", "How far a step goes.", 0.0..=1e6, 0.01),
            Hyperparameter::number(
                "momentum",
                "What a step keeps of the last ones.",
                0.0..=1.0,
                0.0,
            ),
            Hyperparameter::integer(
                "epochs",
                "How often gd and sgd see all rows.",
                1..=1_000_000,
                100,
            ),
            Hyperparameter::integer("batch_size", "Rows of a mini-batch of sgd.", 1..=65_536, 32),
        ]
    }

    fn begin(task: &Task) -> Result<(Self, Plan)> {
        let last = || task.columns.last().map(|column| column.name.as_str());
        let target = match task.text("target")? {
            "" => last().ok_or_else(|| Error::invalid_argument("the data has no columns"))?,
            name => &task.column(name)?.name,
        };
        let names: Vec<&str> = match task.text("features")? {
            "" => task.columns.iter().map(|c| c.name.as_str()).filter(|n| *n != target).collect(),
            names => names.split(',').map(str::trim).collect(),
        };
        let mut features = 0;
        for name in &names {
            let column = task.column(name)?;
            if column.dtype == DType::Bytes {
                return Err(Error::invalid_argument(format!("the column {name:?} is text")));
            }
            features += column.width();
        }
        if features == 0 || task.column(target)?.width() != 1 {
            return Err(Error::invalid_argument(
                "linear regression wants one number to learn and one or more to learn it from",
            ));
        }
        let solver = task.text("solver")?;
        // All rows are one batch of gradient descent, as far as a batch may be.
        let rows = u32::try_from(task.rows).unwrap_or(u32::MAX).min(1 << 20);
        let plan = match solver {
            "normal" => Plan::new(1, rows.min(4_096)).in_order(),
            "gd" => Plan::new(task.integer("epochs")? as u32, rows).in_order(),
            _ => Plan::new(task.integer("epochs")? as u32, task.integer("batch_size")? as u32),
        };
        let solver = match solver {
            "normal" => Solver::normal(features, task.number("ridge")?)?,
            _ => Solver::Descent {
                line: Linear::new(features, 1, &mut Random::new(task.seed))?,
                sgd: Sgd::new(task.number("learning_rate")?).momentum(task.number("momentum")?),
            },
        };
        let plan = plan.feed("x", DType::Fp32, &names).feed("y", DType::Fp32, &[target]);
        Ok((Training { features, solver }, plan))
    }

    fn step(&mut self, batch: Inputs, _: Position) -> Result<Metrics> {
        let (x, y) = matrices(&batch)?;
        match &mut self.solver {
            Solver::Normal { squares, products, .. } => {
                let ones = Tensor::full(DType::Fp64, &[x.shape()[0], 1], 1.0)?;
                let x = Tensor::concat(&[&x.cast(DType::Fp64)?, &ones], 1)?;
                let transposed = x.transpose(&[1, 0])?;
                *squares = squares.add(&transposed.matmul(&x)?)?;
                *products = products.add(&transposed.matmul(&y.cast(DType::Fp64)?)?)?;
                // There is no loss before all rows are summed.
                Ok(Metrics::new())
            }
            Solver::Descent { line, sgd } => {
                let loss = half_mean_square(line, &x, &y)?;
                sgd.step(&line.parameters(), &loss.backward()?)?;
                Ok(Metrics::new().with("loss", loss.item()?))
            }
        }
    }

    fn evaluate(&mut self, batch: Inputs) -> Result<Metrics> {
        let (x, y) = matrices(&batch)?;
        let (weight, bias) = self.learnt()?;
        let line = Linear {
            weight: innkeeper_sdk::train::Parameter::new(weight),
            bias: Some(innkeeper_sdk::train::Parameter::new(bias)),
        };
        let loss = without_gradients(|| half_mean_square(&line, &x, &y))?;
        Ok(Metrics::new().with("loss", loss.item()?))
    }

    fn save(&mut self) -> Result<Outputs> {
        match &self.solver {
            Solver::Normal { squares, products, .. } => Ok(Outputs::new()
                .with("squares", squares.share()?)
                .with("products", products.share()?)),
            Solver::Descent { line, sgd } => saved(line, sgd),
        }
    }

    fn restore(&mut self, state: Inputs) -> Result<()> {
        match &mut self.solver {
            Solver::Normal { squares, products, .. } => {
                *squares = state.tensor("squares")?.share()?;
                *products = state.tensor("products")?.share()?;
                Ok(())
            }
            Solver::Descent { line, sgd } => restored(line, sgd, state),
        }
    }

    fn finish(&mut self) -> Result<Files> {
        let (weight, bias) = self.learnt()?;
        let weights = Outputs::new().with("weight", weight).with("bias", bias);
        Ok(Files::new().tensors(WEIGHTS, weights))
    }
}

impl Solver {
    fn normal(features: usize, ridge: f64) -> Result<Solver> {
        if features > FEATURES_MAX {
            return Err(Error::invalid_argument(format!(
                "normal equations of {features} features take too long; up to {FEATURES_MAX} do, or take sgd"
            )));
        }
        let zeros = |columns| Tensor::full(DType::Fp64, &[features + 1, columns], 0.0);
        Ok(Solver::Normal { squares: zeros(features + 1)?, products: zeros(1)?, ridge })
    }
}

impl Training {
    /// Weight `[1, features]` and bias `[1]`.
    fn learnt(&self) -> Result<(Tensor, Tensor)> {
        match &self.solver {
            Solver::Descent { line, .. } => {
                let bias =
                    line.bias.as_ref().ok_or_else(|| Error::internal("a line without a bias"))?;
                Ok((line.weight.value().share()?, bias.value().share()?))
            }
            Solver::Normal { squares, products, ridge } => {
                let n = self.features + 1;
                let mut a = squares.to_vec::<f64>()?;
                // The bias is not held back.
                (0..self.features).for_each(|i| a[i * n + i] += ridge);
                let solved = solve(a, products.to_vec::<f64>()?).map_err(|row| {
                    Error::invalid_argument(format!(
                        "feature {} depends on the others, so that many lines fit as well; leave it out, or say a ridge",
                        row + 1
                    ))
                })?;
                let solved: Vec<f32> = solved.iter().map(|&value| value as f32).collect();
                let weight = Tensor::from_slice(&[1, self.features], &solved[..self.features])?;
                Ok((weight, Tensor::from_slice(&[1], &solved[self.features..])?))
            }
        }
    }
}

/// 1 / (2 m) sum (h(x) - y)^2.
fn half_mean_square(line: &Linear, x: &Tensor, y: &Tensor) -> Result<Var> {
    line.forward(&Var::constant(x.share()?))?.mean_squared_error(y)?.mul_scalar(0.5)
}

fn matrices(batch: &Inputs) -> Result<(Tensor, Tensor)> {
    let matrix = |name| {
        let tensor = batch.tensor(name)?;
        let rows = tensor.shape()[0];
        let columns: usize = tensor.shape()[1..].iter().product();
        tensor.reshape(&[rows as i64, columns as i64])
    };
    Ok((matrix("x")?, matrix("y")?))
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::test;
    use innkeeper_sdk::trainer::{Column, Contents, Setting};

    use super::*;

    /// Weight and bias that are learnt from y = 2 a - 3 b + 0.5.
    fn learnt(settings: &[(&str, Setting)]) -> Vec<f32> {
        let mut all: Vec<(String, Setting)> = Training::hyperparameters()
            .into_iter()
            .map(|known| (known.name, known.default.unwrap()))
            .collect();
        for (name, value) in settings {
            all.iter_mut().find(|(known, _)| known == name).unwrap().1 = value.clone();
        }
        let column = |name: &str| Column {
            name: name.into(),
            dtype: DType::Fp32,
            shape: vec![],
            statistics: None,
            categories: vec![],
        };
        let mut random = Random::new(1);
        let rows: Vec<[f32; 2]> =
            (0..64).map(|_| [random.normal() as f32, random.normal() as f32]).collect();
        let task = Task {
            settings: all,
            seed: 3,
            columns: ["a", "b", "y"].map(column).to_vec(),
            rows: 64,
            validation_rows: 0,
            assets: test::assets::<String>([]),
        };
        let (mut training, plan) = Training::begin(&task).unwrap();
        let (size, mut step) = (plan.batch_size as usize, 0);
        for epoch in 0..plan.epochs {
            for rows in rows.chunks(size) {
                let y: Vec<f32> = rows.iter().map(|[a, b]| 2.0 * a - 3.0 * b + 0.5).collect();
                let batch = Inputs::new()
                    .with("x", Tensor::from_slice(&[rows.len(), 2], rows.as_flattened()).unwrap())
                    .with("y", Tensor::from_slice(&[rows.len()], &y).unwrap());
                training.step(batch, Position { epoch, step, steps: 0 }).unwrap();
                step += 1;
            }
        }
        let files: Vec<(String, Contents)> = training.finish().unwrap().into_iter().collect();
        let Contents::Tensors(weights) = &files[0].1 else { panic!("no tensors") };
        let mut all = weights.tensor("weight").unwrap().to_vec::<f32>().unwrap();
        all.extend(weights.tensor("bias").unwrap().to_vec::<f32>().unwrap());
        all
    }

    #[test]
    fn all_solvers_find_the_line() {
        let solver = |name: &str| ("solver", Setting::Text(name.into()));
        let rate = ("learning_rate", Setting::Number(0.1));
        for (settings, near) in [
            (vec![solver("normal")], 1e-5),
            (vec![solver("gd"), rate.clone(), ("epochs", Setting::Integer(400))], 1e-3),
            (vec![solver("sgd"), rate, ("epochs", Setting::Integer(200))], 1e-3),
        ] {
            let got = learnt(&settings);
            for (got, wanted) in got.iter().zip([2.0, -3.0, 0.5]) {
                assert!((got - wanted).abs() < near, "{settings:?}: {got} is not {wanted}");
            }
        }
    }
}
