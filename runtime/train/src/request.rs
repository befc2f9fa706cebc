//! What a job is asked for, and whether it holds together.

use std::collections::BTreeMap;

use innkeeper_catalog::{AliasName, DatasetName, ModelName, VersionName};
use innkeeper_sandbox::{Hyperparameter, Setting, SettingKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CompressRequest, TrainError};

/// Numbers in one hyper-parameter.
const INTEGERS_MAX: usize = 64;
/// Bytes of a text.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A job as it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Request {
    /// A version is trained.
    Train(TrainRequest),
    /// A version's weights are made to take fewer bytes.
    Compress(CompressRequest),
}

impl Request {
    /// Whether it needs this dataset.
    pub(crate) fn learns_from(&self, dataset: &DatasetName) -> bool {
        match self {
            Request::Train(train) => {
                train.dataset == *dataset || train.validation_dataset.as_ref() == Some(dataset)
            }
            Request::Compress(_) => false,
        }
    }
}

/// What is trained, on what, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRequest {
    /// The model whose trainer it is.
    pub model: ModelName,
    /// Its version or alias; what serves when a request names none otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it learns from.
    pub dataset: DatasetName,
    /// What it is judged by; otherwise a part of `dataset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_dataset: Option<DatasetName>,
    /// The part of `dataset` that is kept for judging.
    #[serde(default = "a_tenth")]
    pub validation_fraction: f64,
    /// Hyper-parameters; those that are left out have the trainer's defaults.
    #[serde(default)]
    pub hyperparameters: BTreeMap<String, Value>,
    /// Where all chance comes from.
    #[serde(default)]
    pub seed: u64,
    /// The version that it makes.
    #[serde(default)]
    pub into: Into,
    /// An alias that stands for it when it is good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasBar>,
    /// Milliseconds from one checkpoint to the next; 0 for one after each step.
    #[serde(default = "ten_seconds")]
    pub checkpoint_every_ms: u64,
    /// What people wish to remember with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What a job makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Into {
    /// The model; the one that is trained otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// The version; the next number otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionName>,
}

/// An alias, and the bar before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasBar {
    /// The alias.
    pub name: AliasName,
    /// A number of the last epoch, such as `val_accuracy`; none without a bar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// It must be this or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// It must be this or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Whether the version may break those who call by the alias.
    #[serde(default)]
    pub force: bool,
}

fn a_tenth() -> f64 {
    0.1
}

fn ten_seconds() -> u64 {
    10_000
}

impl TrainRequest {
    /// A job with everything that goes without saying.
    pub fn new(model: ModelName, dataset: DatasetName) -> TrainRequest {
        TrainRequest {
            model,
            version: None,
            dataset,
            validation_dataset: None,
            validation_fraction: a_tenth(),
            hyperparameters: BTreeMap::new(),
            seed: 0,
            into: Into::default(),
            alias: None,
            checkpoint_every_ms: ten_seconds(),
            metadata: BTreeMap::new(),
        }
    }

    /// Whether it holds together, as far as it says by itself.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let invalid = |text: String| Err(TrainError::Invalid(text));
        if !(0.0..1.0).contains(&self.validation_fraction) {
            let got = self.validation_fraction;
            return invalid(format!(
                "validation_fraction must be 0 or more and less than 1, got {got}"
            ));
        }
        self.alias.as_ref().map_or(Ok(()), AliasBar::check)
    }
}

impl AliasBar {
    /// Whether a metric and its bounds are there together.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let invalid = |text: &str| Err(TrainError::Invalid(text.to_owned()));
        match (&self.metric, self.at_least.is_some() || self.at_most.is_some()) {
            (Some(_), false) => {
                invalid("alias.metric wants alias.at_least or alias.at_most beside it")
            }
            (None, true) => {
                invalid("alias.at_least and alias.at_most want alias.metric beside them")
            }
            _ => Ok(()),
        }
    }

    /// Why these numbers are not good enough.
    pub(crate) fn below(&self, numbers: &BTreeMap<String, f64>) -> Option<String> {
        let metric = self.metric.as_deref()?;
        let Some(got) = numbers.get(metric) else {
            let known: Vec<&str> = numbers.keys().map(String::as_str).collect();
            return Some(format!("there is no {metric}; there are {}", known.join(", ")));
        };
        // Also what is no number is not good enough.
        if let Some(bar) = self.at_least
            && (got.is_nan() || *got < bar)
        {
            return Some(format!("{metric} is {got}, below {bar}"));
        }
        if let Some(bar) = self.at_most
            && (got.is_nan() || *got > bar)
        {
            return Some(format!("{metric} is {got}, above {bar}"));
        }
        None
    }
}

/// A value for each hyper-parameter: what was asked for, checked, or the default.
///
/// # Errors
/// [`TrainError::Setting`].
pub(crate) fn settings(
    known: &[Hyperparameter],
    asked: &BTreeMap<String, Value>,
) -> Result<Vec<(String, Setting)>, TrainError> {
    if let Some((name, got)) = asked.iter().find(|(name, _)| known.iter().all(|k| k.name != **name))
    {
        let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
        let wanted = format!("one of {}", names.join(", "));
        return Err(TrainError::Setting { name: name.clone(), wanted, got: shown(got) });
    }
    let mut settings = Vec::with_capacity(known.len());
    for one in known {
        let setting = match (asked.get(&one.name), &one.default) {
            (Some(value), _) => setting(&one.kind, value).ok_or_else(|| TrainError::Setting {
                name: one.name.clone(),
                wanted: wanted(&one.kind),
                got: shown(value),
            })?,
            (None, Some(default)) => default.clone(),
            (None, None) => {
                let (name, wanted) = (one.name.clone(), wanted(&one.kind));
                return Err(TrainError::Setting { name, wanted, got: "nothing".into() });
            }
        };
        settings.push((one.name.clone(), setting));
    }
    Ok(settings)
}

fn setting(kind: &SettingKind, value: &Value) -> Option<Setting> {
    match kind {
        SettingKind::Integer(low, high) => {
            value.as_i64().filter(|v| (low..=high).contains(&v)).map(Setting::Integer)
        }
        SettingKind::Number(low, high) => {
            value.as_f64().filter(|v| (low..=high).contains(&v)).map(Setting::Number)
        }
        SettingKind::Flag => value.as_bool().map(Setting::Flag),
        SettingKind::Text(words) => value
            .as_str()
            .filter(|text| text.len() <= TEXT_BYTES_MAX)
            .filter(|text| words.is_empty() || words.iter().any(|word| word == text))
            .map(|text| Setting::Text(text.to_owned())),
        SettingKind::Integers(low, high) => {
            let values = value.as_array().filter(|values| values.len() <= INTEGERS_MAX)?;
            let one = |value: &Value| value.as_i64().filter(|v| (low..=high).contains(&v));
            values.iter().map(one).collect::<Option<Vec<i64>>>().map(Setting::Integers)
        }
    }
}

fn wanted(kind: &SettingKind) -> String {
    match kind {
        SettingKind::Integer(low, high) => format!("a whole number from {low} to {high}"),
        SettingKind::Number(low, high) => format!("a number from {low} to {high}"),
        SettingKind::Flag => "true or false".into(),
        SettingKind::Text(words) if words.is_empty() => {
            format!("text of at most {TEXT_BYTES_MAX} bytes")
        }
        SettingKind::Text(words) => format!("one of {}", words.join(", ")),
        SettingKind::Integers(low, high) => {
            format!("a list of at most {INTEGERS_MAX} whole numbers from {low} to {high}")
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// A setting as JSON, for lineage and for people.
pub(crate) fn json(setting: &Setting) -> Value {
    match setting {
        Setting::Integer(value) => Value::from(*value),
        Setting::Number(value) => Value::from(*value),
        Setting::Flag(value) => Value::from(*value),
        Setting::Text(value) => Value::from(value.as_str()),
        Setting::Integers(values) => Value::from(values.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Hyperparameter> {
        let one = |name: &str, kind, default| Hyperparameter {
            name: name.into(),
            meaning: String::new(),
            kind,
            default,
        };
        vec![
            one("epochs", SettingKind::Integer(1, 10), Some(Setting::Integer(3))),
            one("rate", SettingKind::Number(0.0, 1.0), Some(Setting::Number(0.5))),
            one("loss", SettingKind::Text(vec!["a".into(), "b".into()]), None),
            one("layers", SettingKind::Integers(1, 100), Some(Setting::Integers(vec![64]))),
        ]
    }

    #[test]
    fn settings_are_held_against_what_the_trainer_says() {
        let check = |json: &str, wanted: Result<&str, &str>| {
            let asked: BTreeMap<String, Value> = serde_json::from_str(json).unwrap();
            let got = settings(&known(), &asked).map(|settings| {
                let told =
                    settings.iter().map(|(name, value)| format!("{name}={}", json_of(value)));
                told.collect::<Vec<_>>().join(" ")
            });
            let got = got.map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), wanted, "{json}");
        };
        fn json_of(setting: &Setting) -> Value {
            super::json(setting)
        }
        check(r#"{"loss": "a"}"#, Ok(r#"epochs=3 rate=0.5 loss="a" layers=[64]"#));
        check(
            r#"{"loss": "b", "epochs": 10, "rate": 1, "layers": []}"#,
            Ok(r#"epochs=10 rate=1.0 loss="b" layers=[]"#),
        );
        let wrong = [
            (r#"{}"#, "\"loss\": wanted one of a, b, got nothing"),
            (r#"{"loss": "c"}"#, "\"loss\": wanted one of a, b, got \"c\""),
            (
                r#"{"loss": "a", "epochs": 0}"#,
                "\"epochs\": wanted a whole number from 1 to 10, got 0",
            ),
            (
                r#"{"loss": "a", "epochs": 1.5}"#,
                "\"epochs\": wanted a whole number from 1 to 10, got 1.5",
            ),
            (r#"{"loss": "a", "rate": "x"}"#, "\"rate\": wanted a number from 0 to 1, got \"x\""),
            (
                r#"{"loss": "a", "layers": [0]}"#,
                "\"layers\": wanted a list of at most 64 whole numbers from 1 to 100, got [0]",
            ),
            (
                r#"{"loss": "a", "pace": 1}"#,
                "\"pace\": wanted one of epochs, rate, loss, layers, got 1",
            ),
        ];
        for (json, text) in wrong {
            check(json, Err(&format!("hyper-parameter {text}")));
        }
    }

    #[test]
    fn what_is_no_number_does_not_pass_a_bar() {
        let bar = AliasBar {
            name: "candidate".parse().unwrap(),
            metric: Some("val_loss".into()),
            at_least: None,
            at_most: Some(0.5),
            force: false,
        };
        let below = |value: f64| bar.below(&BTreeMap::from([("val_loss".to_owned(), value)]));
        assert_eq!(below(0.5), None);
        assert_eq!(below(0.6).as_deref(), Some("val_loss is 0.6, above 0.5"));
        assert_eq!(below(f64::NAN).as_deref(), Some("val_loss is NaN, above 0.5"));
        assert_eq!(
            bar.below(&BTreeMap::new()).as_deref(),
            Some("there is no val_loss; there are ")
        );
    }
}
