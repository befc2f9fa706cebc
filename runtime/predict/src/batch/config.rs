//! How a model's requests are batched, as its manifest says.

use innkeeper_tensor::Signature;
use serde::{Deserialize, Serialize};

use super::{Pad, Padding};

/// How requests for a model are put together. Sizes are in rows: steps along the signature's batch axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    /// Sizes that run without further delay, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<u64>,
    /// The most rows of a batch, and of a request.
    pub max: u64,
    /// Microseconds that a request may be kept for others to join it.
    #[serde(default)]
    pub delay_us: u64,
    /// Levels of priority, 1 the first to go.
    #[serde(default = "one")]
    pub priorities: u64,
    /// The level of a request that asks for none; the last one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_priority: Option<u64>,
    /// Whether requests of different tenants may run together, in an instance of the owner's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub across_tenants: bool,
    /// Inputs whose requests need not be of one length to run together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pad: Vec<Pad>,
}

fn one() -> u64 {
    1
}

/// A way of batching that no model may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batching: {0}")]
pub struct BatchingError(pub String);

impl Batching {
    /// The most rows of a batch that a model may ask for.
    pub const ROWS_MAX: u64 = 65_536;
    /// The most preferred sizes.
    pub const PREFERRED_MAX: usize = 32;
    /// The longest delay, in microseconds.
    pub const DELAY_US_MAX: u64 = 10_000_000;
    /// The most levels of priority.
    pub const PRIORITIES_MAX: u64 = 1_000;

    /// Whether a model may be batched like this.
    ///
    /// # Errors
    /// What is out of its bounds.
    pub fn check(&self) -> Result<(), BatchingError> {
        let within = |name: &str, got: u64, min: u64, max: u64| match got {
            got if (min..=max).contains(&got) => Ok(()),
            got => Err(BatchingError(format!("{name} is {got}; wanted {min} to {max}"))),
        };
        within("max", self.max, 1, Self::ROWS_MAX)?;
        within("delay_us", self.delay_us, 0, Self::DELAY_US_MAX)?;
        within("priorities", self.priorities, 1, Self::PRIORITIES_MAX)?;
        within("default_priority", self.default_priority(), 1, self.priorities)?;
        let count = self.preferred.len() as u64;
        within("the number of preferred sizes", count, 0, Self::PREFERRED_MAX as u64)?;
        for &size in &self.preferred {
            within("a preferred size", size, 1, self.max)?;
        }
        match self.preferred.is_sorted_by(|a, b| a < b) {
            true => Ok(()),
            false => Err(BatchingError("the preferred sizes must ascend".into())),
        }
    }

    /// Whether a model of this signature may be batched.
    ///
    /// # Errors
    /// It has no batch axis, takes nothing that has one, or cannot be padded as it says.
    pub fn check_signature(&self, signature: &Signature) -> Result<(), BatchingError> {
        if signature.batch_axis.is_none() {
            return Err(BatchingError("the signature declares no batch axis".into()));
        }
        if signature.inputs.is_empty() {
            return Err(BatchingError("a model without inputs has no rows".into()));
        }
        self.paddings(signature).map(drop)
    }

    pub(crate) fn paddings(&self, signature: &Signature) -> Result<Vec<Padding>, BatchingError> {
        for (i, Pad { input, .. }) in self.pad.iter().enumerate() {
            if self.pad[..i].iter().any(|other| other.input == *input) {
                return Err(BatchingError(format!("pad names the input {input:?} twice")));
            }
        }
        self.pad.iter().map(|pad| Padding::new(pad, signature)).collect()
    }

    /// The level of a request that asks for none.
    pub fn default_priority(&self) -> u64 {
        self.default_priority.unwrap_or(self.priorities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batching() -> Batching {
        Batching {
            preferred: vec![4, 8],
            max: 32,
            delay_us: 500,
            priorities: 1,
            default_priority: None,
            across_tenants: false,
            pad: Vec::new(),
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let check = |change: &dyn Fn(&mut Batching), wanted: &str| {
            let mut changed = batching();
            change(&mut changed);
            assert_eq!(changed.check().unwrap_err().to_string(), format!("batching: {wanted}"));
        };
        assert_eq!(batching().check(), Ok(()));
        check(&|b| b.max = 0, "max is 0; wanted 1 to 65536");
        check(&|b| b.max = 7, "a preferred size is 8; wanted 1 to 7");
        check(&|b| b.preferred = vec![8, 4], "the preferred sizes must ascend");
        check(
            &|b| b.preferred = vec![1; 33],
            "the number of preferred sizes is 33; wanted 0 to 32",
        );
        check(&|b| b.delay_us = 10_000_001, "delay_us is 10000001; wanted 0 to 10000000");
        check(&|b| b.priorities = 0, "priorities is 0; wanted 1 to 1000");
        check(&|b| b.default_priority = Some(2), "default_priority is 2; wanted 1 to 1");
    }

    #[test]
    fn only_what_has_a_batch_axis_is_batched() {
        let error = batching().check_signature(&Signature::default()).unwrap_err();
        assert_eq!(error.to_string(), "batching: the signature declares no batch axis");
    }
}
