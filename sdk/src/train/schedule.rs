//! How the learning rate changes over steps.

use std::f64::consts::PI;

/// A factor on a learning rate for each step, from 0 on: PyTorch's schedulers of the same names, in closed form.
///
/// ```
/// use innkeeper_sdk::train::{Adam, Optimizer, Schedule};
///
/// let schedule = Schedule::Cosine { steps: 100, end: 0.0 }.after_warm_up(10);
/// let mut adam = Adam::new(1e-3);
/// for step in 0..110 {
///     adam.set_learning_rate(1e-3 * schedule.at(step));
/// }
/// assert_eq!((schedule.at(0), schedule.at(10)), (0.1, 1.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// `factor` to the power of how many times `every` steps are over. PyTorch's `StepLR`.
    Step {
        /// The steps from one change to the next, at least 1.
        every: u64,
        /// What the rate is multiplied by at each change.
        factor: f64,
    },
    /// `factor` to the power of the step. PyTorch's `ExponentialLR`.
    Exponential {
        /// What the rate is multiplied by at each step.
        factor: f64,
    },
    /// From 1 down to `end` along half a cosine, over `steps` steps. PyTorch's `CosineAnnealingLR`; Loshchilov and
    /// Hutter 2017, *SGDR: Stochastic Gradient Descent with Warm Restarts*.
    Cosine {
        /// When the end is reached.
        steps: u64,
        /// The last factor.
        end: f64,
    },
    /// From 1 to `end` along a line, over `steps` steps. PyTorch's `LinearLR`.
    Linear {
        /// When the end is reached.
        steps: u64,
        /// The last factor.
        end: f64,
    },
    /// 1/n, 2/n, .. 1 over the first n `steps`, and then another schedule from its beginning.
    WarmUp {
        /// How many steps it takes to come to 1.
        steps: u64,
        /// What comes after.
        then: Box<Schedule>,
    },
}

impl Schedule {
    /// This schedule, after `steps` steps in which the factor rises along a line.
    #[must_use]
    pub fn after_warm_up(self, steps: u64) -> Schedule {
        Schedule::WarmUp { steps, then: Box::new(self) }
    }

    /// The factor at a step.
    pub fn at(&self, step: u64) -> f64 {
        let part = |steps: u64| step.min(steps) as f64 / steps.max(1) as f64;
        match self {
            Schedule::Constant => 1.0,
            Schedule::Step { every, factor } => factor.powf((step / (*every).max(1)) as f64),
            Schedule::Exponential { factor } => factor.powf(step as f64),
            Schedule::Cosine { steps, end } => {
                end + (1.0 - end) * (1.0 + (PI * part(*steps)).cos()) / 2.0
            }
            Schedule::Linear { steps, end } => 1.0 + (end - 1.0) * part(*steps),
            Schedule::WarmUp { steps, then } => match step.checked_sub(*steps) {
                Some(after) => then.at(after),
                None => (step + 1) as f64 / *steps as f64,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        let cases = [
            (Schedule::Constant, 9, 1.0),
            (Schedule::Step { every: 3, factor: 0.5 }, 2, 1.0),
            (Schedule::Step { every: 3, factor: 0.5 }, 6, 0.25),
            (Schedule::Exponential { factor: 0.9 }, 2, 0.81),
            (Schedule::Cosine { steps: 10, end: 0.1 }, 0, 1.0),
            (Schedule::Cosine { steps: 10, end: 0.1 }, 5, 0.55),
            (Schedule::Cosine { steps: 10, end: 0.1 }, 99, 0.1),
            (Schedule::Linear { steps: 4, end: 0.0 }, 1, 0.75),
            (Schedule::Linear { steps: 0, end: 0.5 }, 1, 1.0),
            (Schedule::Exponential { factor: 0.5 }.after_warm_up(4), 3, 1.0),
            (Schedule::Exponential { factor: 0.5 }.after_warm_up(4), 5, 0.5),
        ];
        for (schedule, step, wanted) in cases {
            let got = schedule.at(step);
            assert!((got - wanted).abs() < 1e-12, "{schedule:?} at {step}: {got}");
        }
    }
}
