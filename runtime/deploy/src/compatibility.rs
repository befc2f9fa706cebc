//! Whether those who call a model by an alias can go on calling it as they do.

use innkeeper_catalog::{AliasName, Catalog, ModelKey, ModelRecord, VersionName};
use innkeeper_tensor::{Signature, TensorSpec};

use crate::DeployError;
use crate::facts::Facts;

/// Whether a version that breaks callers may take an alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// It is refused.
    #[default]
    Required,
    /// It may: whoever asks knows what they do.
    Forced,
}

/// Something about a tensor that callers rely on and that another version does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// "input" or "output".
    pub kind: &'static str,
    /// The tensor's name.
    pub name: String,
    /// What is the matter, in a few words.
    pub problem: &'static str,
    /// Dtype and shape as callers know them; empty where there was no such tensor.
    pub was: String,
    /// Dtype and shape as they would be; empty where there would be none.
    pub is: String,
}

impl Compatibility {
    /// Whether `version` may take the alias.
    ///
    /// # Errors
    /// [`DeployError::Breaks`]. What is not there is left to whoever changes it.
    pub(crate) async fn require(
        self,
        catalog: &Catalog,
        key: &ModelKey,
        alias: &AliasName,
        version: &VersionName,
    ) -> Result<(), DeployError> {
        if self == Compatibility::Forced {
            return Ok(());
        }
        let model = catalog.model(key).await?;
        let Some(new) = signature(&model, version) else { return Ok(()) };
        check(&model, alias, version, &new)
    }

    /// Whether a version that is about to be published may take these aliases.
    ///
    /// # Errors
    /// [`DeployError::Breaks`].
    pub(crate) fn require_new(
        self,
        model: &ModelRecord,
        aliases: &[AliasName],
        version: &VersionName,
        signature: &Signature,
    ) -> Result<(), DeployError> {
        if self == Compatibility::Forced {
            return Ok(());
        }
        aliases.iter().try_for_each(|alias| check(model, alias, version, signature))
    }
}

/// The version's signature, if it is there and can be read.
fn signature(model: &ModelRecord, version: &VersionName) -> Option<Signature> {
    let record = model.versions.iter().find(|record| record.version == *version)?;
    Facts::signature(&record.facts).ok()
}

fn check(
    model: &ModelRecord,
    alias: &AliasName,
    version: &VersionName,
    new: &Signature,
) -> Result<(), DeployError> {
    let Some((_, from)) = model.aliases.iter().find(|(name, _)| name == alias) else {
        return Ok(());
    };
    let Some(old) = signature(model, from) else { return Ok(()) };
    let differences = differences(&old, new);
    if differences.is_empty() {
        return Ok(());
    }
    Err(DeployError::Breaks(Box::new(Breaks {
        model: model.key.clone(),
        alias: alias.clone(),
        from: from.clone(),
        to: version.clone(),
        differences,
    })))
}

/// A version that breaks the callers of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaks {
    /// The model.
    pub model: ModelKey,
    /// The alias that they call.
    pub alias: AliasName,
    /// What it stands for.
    pub from: VersionName,
    /// What it was to stand for, or to try.
    pub to: VersionName,
    /// What would break them.
    pub differences: Vec<Difference>,
}

/// What breaks callers who know `old` and meet `new`: every request that `old` takes, `new` must take, and every answer
/// of `new` must be one that `old` could have given.
pub(crate) fn differences(old: &Signature, new: &Signature) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut tell = |kind, spec: &TensorSpec, problem, was: String, is: String| {
        found.push(Difference { kind, name: spec.name.clone(), problem, was, is });
    };
    for was in &old.inputs {
        match named(&new.inputs, was) {
            None => tell("input", was, "removed", text(was), String::new()),
            Some(is) => {
                if let Some(problem) = input_problem(was, is) {
                    tell("input", was, problem, text(was), text(is));
                }
            }
        }
    }
    for is in new.inputs.iter().filter(|is| !is.optional && named(&old.inputs, is).is_none()) {
        tell("input", is, "new and required", String::new(), text(is));
    }
    for was in &old.outputs {
        match named(&new.outputs, was) {
            None => tell("output", was, "removed", text(was), String::new()),
            Some(is) => {
                if let Some(problem) = output_problem(was, is) {
                    tell("output", was, problem, text(was), text(is));
                }
            }
        }
    }
    found
}

fn named<'a>(specs: &'a [TensorSpec], like: &TensorSpec) -> Option<&'a TensorSpec> {
    specs.iter().find(|spec| spec.name == like.name)
}

fn text(spec: &TensorSpec) -> String {
    if spec.optional { format!("{spec}, optional") } else { spec.to_string() }
}

fn input_problem(was: &TensorSpec, is: &TensorSpec) -> Option<&'static str> {
    if was.dtype != is.dtype {
        return Some("another dtype");
    }
    if was.optional && !is.optional {
        return Some("no longer optional");
    }
    (!covers(is, was)).then_some("takes fewer shapes")
}

fn output_problem(was: &TensorSpec, is: &TensorSpec) -> Option<&'static str> {
    if was.dtype != is.dtype {
        return Some("another dtype");
    }
    if !was.optional && is.optional {
        return Some("may be missing now");
    }
    (!covers(was, is)).then_some("has other shapes")
}

/// Whether every shape of `inner` is one of `outer`'s.
fn covers(outer: &TensorSpec, inner: &TensorSpec) -> bool {
    match (&outer.shape, &inner.shape) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => {
            outer.len() == inner.len()
                && outer.iter().zip(inner).all(|(outer, inner)| outer.is_none() || outer == inner)
        }
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::DType;

    use super::*;

    fn spec(name: &str, dtype: DType, shape: Option<&[i64]>, optional: bool) -> TensorSpec {
        let shape = shape.map(|dims| dims.iter().map(|&dim| usize::try_from(dim).ok()).collect());
        TensorSpec { name: name.into(), dtype, shape, optional }
    }

    #[test]
    fn what_breaks_callers_and_what_does_not() {
        use DType::{Fp32, Int64};
        let any = |name, optional| spec(name, Fp32, None, optional);
        let free = |name| spec(name, Fp32, Some(&[-1, 16]), false);
        let fixed = |name| spec(name, Fp32, Some(&[1, 16]), false);
        let ints = |name| spec(name, Int64, Some(&[-1, 16]), false);
        let flat = |name| spec(name, Fp32, Some(&[-1]), false);
        let inputs: [(Vec<TensorSpec>, Vec<TensorSpec>, &str); 11] = [
            (vec![free("A")], vec![free("A")], ""),
            (vec![free("A")], vec![any("A", false)], ""),
            (vec![fixed("A")], vec![free("A")], ""),
            (vec![free("A")], vec![free("A"), any("B", true)], ""),
            (vec![free("A")], vec![], "A removed"),
            (vec![free("A")], vec![free("B")], "A removed, B new and required"),
            (vec![free("A")], vec![ints("A")], "A another dtype"),
            (vec![free("A")], vec![fixed("A")], "A takes fewer shapes"),
            (vec![free("A")], vec![flat("A")], "A takes fewer shapes"),
            (vec![any("A", false)], vec![free("A")], "A takes fewer shapes"),
            (vec![any("A", true)], vec![any("A", false)], "A no longer optional"),
        ];
        let told = |old: Signature, new: Signature| {
            let found = differences(&old, &new);
            let texts = found.iter().map(|found| format!("{} {}", found.name, found.problem));
            texts.collect::<Vec<_>>().join(", ")
        };
        for (old, new, wanted) in inputs {
            let with = |inputs| Signature { inputs, ..Signature::default() };
            assert_eq!(told(with(old), with(new)), wanted);
        }
        let outputs: [(Vec<TensorSpec>, Vec<TensorSpec>, &str); 7] = [
            (vec![free("Y")], vec![fixed("Y"), free("Z")], ""),
            (vec![any("Y", false)], vec![free("Y")], ""),
            (vec![free("Y")], vec![], "Y removed"),
            (vec![fixed("Y")], vec![free("Y")], "Y has other shapes"),
            (vec![free("Y")], vec![any("Y", false)], "Y has other shapes"),
            (vec![free("Y")], vec![ints("Y")], "Y another dtype"),
            (vec![any("Y", false)], vec![any("Y", true)], "Y may be missing now"),
        ];
        for (old, new, wanted) in outputs {
            let with = |outputs| Signature { outputs, ..Signature::default() };
            assert_eq!(told(with(old), with(new)), wanted);
        }
    }
}
