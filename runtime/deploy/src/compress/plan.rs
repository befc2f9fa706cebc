//! What is to be done to weights.

use std::str::FromStr;

use innkeeper_formats::safetensors::compressed;
use serde::{Serialize, Serializer};

/// The groups that INT4 may have.
pub const GROUPS: [usize; 3] = [32, 64, 128];

/// What is to be done to weights, in this order: pruned, made a product of low rank, kept in fewer bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What they are kept as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
    /// How many numbers of INT4 share a scale: one of [`GROUPS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// Which of them become zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<Prune>,
    /// The rank of the product that stands for a matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
}

/// What weights are kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// 8 bits, a scale for each row.
    Int8,
    /// 4 bits, a scale for each group of a row.
    Int4,
    /// BF16.
    Bf16,
    /// FP16.
    Fp16,
}

/// Which weights become zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prune {
    /// This share of a tensor, those of the smallest magnitude: above 0 and below 1.
    Share(f64),
    /// Of each four along a row the two of the smallest magnitude.
    TwoOfFour,
}

/// What is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPlan(String);

impl Plan {
    /// A plan that does something.
    ///
    /// # Errors
    /// It does nothing, or has a group without INT4 or one that there is not.
    pub fn new(
        to: Option<Target>,
        group: Option<usize>,
        prune: Option<Prune>,
        rank: Option<usize>,
    ) -> Result<Plan, BadPlan> {
        if to.is_none() && prune.is_none() && rank.is_none() {
            return Err(BadPlan("nothing is to be done; say --to, --prune or --low-rank".into()));
        }
        if rank == Some(0) {
            return Err(BadPlan("a rank of 0; wanted 1 or more".into()));
        }
        let group = match (to, group) {
            (Some(Target::Int4), None) => Some(GROUPS[0]),
            (Some(Target::Int4), Some(group)) if GROUPS.contains(&group) => Some(group),
            (Some(Target::Int4), Some(group)) => {
                return Err(BadPlan(format!("a group of {group}; wanted 32, 64 or 128")));
            }
            (_, Some(_)) => return Err(BadPlan("a group goes with --to int4 alone".into())),
            (_, None) => None,
        };
        debug_assert!(group.is_none_or(|group| compressed::GROUPS.contains(&group)));
        Ok(Plan { to, group, prune, rank })
    }
}

impl FromStr for Target {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Target, BadPlan> {
        Ok(match text {
            "int8" => Target::Int8,
            "int4" => Target::Int4,
            "bf16" => Target::Bf16,
            "fp16" => Target::Fp16,
            other => return Err(BadPlan(format!("{other:?}; wanted int8, int4, bf16 or fp16"))),
        })
    }
}

impl FromStr for Prune {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Prune, BadPlan> {
        if text == "2:4" {
            return Ok(Prune::TwoOfFour);
        }
        let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
        let wanted = || BadPlan(format!("{text:?}; wanted 2:4 or a share such as 0.5"));
        share.map(Prune::Share).ok_or_else(wanted)
    }
}

impl Serialize for Prune {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Prune::Share(share) => to.serialize_f64(*share),
            Prune::TwoOfFour => to.serialize_str("2:4"),
        }
    }
}
