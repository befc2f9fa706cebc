//! Requests that a candidate is shown beside the version that answers them: run apart, compared, answered to nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use innkeeper_catalog::{TenantName, Used};
use innkeeper_sandbox::{Call, Cancel, GuestError};
use innkeeper_tensor::{DType, Named, Tensor};
use serde::Serialize;

use crate::run::{Host, bytes_of};
use crate::{Deployment, Fault, PredictError, Prediction, Predictor, Request, Traffic};

/// Requests that candidates of one tenant are shown at the same time. What comes meanwhile is dropped.
pub(crate) const SHADOWS_MAX: u64 = 4;
/// Those of all tenants.
pub(crate) const SHADOWS_TOTAL_MAX: u64 = 64;
/// The weight of all of them together beside one tenant's 100: they take what nobody else wants.
pub(crate) const SHADOWS_WEIGHT: u64 = 1;

/// What came of the requests that a candidate was shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShadowReport {
    /// Those that it ran: `same`, `different` and `errors` together.
    pub requests: u64,
    /// It answered what the current version did, numbers within `difference_max` of the bounds.
    pub same: u64,
    /// It answered something else.
    pub different: u64,
    /// It failed where the current version answered.
    pub errors: u64,
    /// Those that it was not shown, or had no time for, because there was too much to do.
    pub dropped: u64,
    /// The largest difference between two numbers of answers of the same shape.
    pub largest_difference: f64,
}

/// Counts what a candidate is shown.
#[derive(Default)]
pub(crate) struct Shadows(Mutex<ShadowReport>);

impl Shadows {
    pub(crate) fn report(&self) -> ShadowReport {
        self.counts().clone()
    }

    fn dropped(&self) {
        self.counts().dropped += 1;
    }

    fn note(&self, outcome: Result<Compared, &PredictError>) {
        let mut counts = self.counts();
        match outcome {
            Err(error) if is_nobodys(error) => {
                counts.dropped += 1;
                return;
            }
            Err(_) => counts.errors += 1,
            Ok(compared) => {
                let largest = counts.largest_difference.max(compared.largest_difference);
                counts.largest_difference = largest;
                if compared.is_same {
                    counts.same += 1;
                } else {
                    counts.different += 1;
                }
            }
        }
        counts.requests += 1;
    }

    fn counts(&self) -> MutexGuard<'_, ShadowReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there was too much to do. A deadline counts as that: what is shown waits for whoever is answered.
fn is_nobodys(error: &PredictError) -> bool {
    let late =
        matches!(error, PredictError::Guest(GuestError::Deadline { .. } | GuestError::Cancelled));
    late || error.fault() == Fault::Load
}

/// A request as it is shown to a candidate.
pub(crate) struct Shown {
    candidate: Arc<Deployment>,
    id: String,
    parameters: Vec<(String, String)>,
    inputs: Vec<Named>,
    outputs: Vec<String>,
}

impl Shown {
    /// `None` for a request of a sequence: what it means depends on what the candidate was not shown.
    pub(crate) fn new(request: &Request, candidate: &Arc<Deployment>) -> Option<Shown> {
        if request.schedule.sequence_id.is_some() {
            return None;
        }
        Some(Shown {
            candidate: Arc::clone(candidate),
            id: request.id.clone(),
            parameters: request.parameters.clone(),
            inputs: request.inputs.clone(),
            outputs: request.outputs.clone(),
        })
    }
}

impl Predictor {
    /// Shows a candidate what the current version has answered, if there is room for that. Nobody waits for it.
    ///
    /// It runs in a fresh instance of its own, on the owner's account: whoever called asked for nothing of it.
    pub(crate) fn show(&self, shown: Shown, traffic: &Arc<Traffic>, answer: &Prediction) {
        let owner = self.tenant(&shown.candidate.model.owner);
        let is_tight = owner.tensor_bytes.used() > owner.tensor_bytes.max() / 2;
        let place = owner.shadows.charge(1).ok().filter(|_| !is_tight && !self.is_draining());
        let Some(place) = place else { return traffic.shadows().dropped() };
        let (predictor, traffic) = (self.clone(), Arc::clone(traffic));
        let answer = answer.outputs.clone();
        tokio::spawn(async move {
            // Not in turns that come seldom: others may wait for the same code.
            if let Err(error) = predictor.load(&shown.candidate).await {
                return traffic.shadows().note(Err(&error));
            }
            let (engine, share) = (predictor.engine().clone(), predictor.shadows_share());
            let show = async move {
                let got = predictor.shown(shown).await;
                let tolerance = traffic.bounds.difference_max;
                let compared = got.as_ref().map(|got| compare(&answer, got, tolerance));
                traffic.shadows().note(compared);
                drop(place);
            };
            engine.run(show, &share, false).await;
        });
    }

    async fn shown(&self, shown: Shown) -> Result<Vec<Named>, PredictError> {
        let Shown { candidate, id, parameters, inputs, outputs } = shown;
        candidate.signature.check_inputs(&inputs)?;
        let owner: &TenantName = &candidate.model.owner;
        let tenant = self.tenant(owner);
        let host = Host::new(self, &candidate, (owner, &tenant));
        let (began, bytes_in) = (Instant::now(), bytes_of(&inputs));
        let deadline_ms_max = host.limits.deadline_ms_max;
        let call = Call {
            id,
            parameters: Arc::new(parameters),
            inputs,
            outputs: Arc::new(outputs),
            deadline: began + Duration::from_millis(deadline_ms_max),
            deadline_ms_max,
            cancel: Cancel::default(),
            work: None,
        };
        let answer = host.once(call).await;
        if let Err(error) = &answer
            && error.fault() == Fault::Plugin
        {
            self.log_error(&candidate, &format!("as a candidate that is shown requests: {error}"));
        }
        tenant.count(&Used {
            requests: 1,
            failures: u64::from(answer.is_err()),
            compute_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            device_us: 0,
            bytes_in,
            bytes_out: answer.as_ref().map_or(0, |outputs| bytes_of(outputs)),
        });
        answer
    }
}

/// How one answer is beside another.
struct Compared {
    is_same: bool,
    largest_difference: f64,
}

/// Holds the outputs of `got` against those of `wanted`, whatever else `got` has.
fn compare(wanted: &[Named], got: &[Named], tolerance: f64) -> Compared {
    let mut all = Compared { is_same: true, largest_difference: 0.0 };
    for output in wanted {
        let other = got.iter().find(|other| other.name == output.name);
        let one = match other {
            Some(other) => tensors(&output.tensor, &other.tensor, tolerance),
            None => Compared { is_same: false, largest_difference: 0.0 },
        };
        all.is_same &= one.is_same;
        all.largest_difference = all.largest_difference.max(one.largest_difference);
    }
    all
}

fn tensors(wanted: &Tensor, got: &Tensor, tolerance: f64) -> Compared {
    let exactly =
        || Compared { is_same: wanted.as_bytes() == got.as_bytes(), largest_difference: 0.0 };
    if wanted.dtype() != got.dtype() || wanted.shape() != got.shape() {
        return Compared { is_same: false, largest_difference: 0.0 };
    }
    macro_rules! numbers {
        ($element:ty, $wide:expr) => {
            match (wanted.elements::<$element>(), got.elements::<$element>()) {
                (Ok(wanted), Ok(got)) => {
                    let wide = $wide;
                    numbers(wanted.iter().map(wide), got.iter().map(wide), tolerance)
                }
                _ => exactly(),
            }
        };
    }
    match wanted.dtype() {
        DType::Fp16 => numbers!(half::f16, |x: &half::f16| x.to_f64()),
        DType::Bf16 => numbers!(half::bf16, |x: &half::bf16| x.to_f64()),
        DType::Fp32 => numbers!(f32, |x: &f32| f64::from(*x)),
        DType::Fp64 => numbers!(f64, |x: &f64| *x),
        _ => exactly(),
    }
}

/// Numbers are the same where they differ by no more than `tolerance` of the larger one, or of 1 where both are smaller.
fn numbers(
    wanted: impl Iterator<Item = f64>,
    got: impl Iterator<Item = f64>,
    tolerance: f64,
) -> Compared {
    let mut all = Compared { is_same: true, largest_difference: 0.0 };
    for (wanted, got) in wanted.zip(got) {
        if wanted == got || (wanted.is_nan() && got.is_nan()) {
            continue;
        }
        let difference = (wanted - got).abs();
        if !difference.is_finite() {
            all.is_same = false;
            continue;
        }
        all.is_same &= difference <= tolerance * wanted.abs().max(got.abs()).max(1.0);
        all.largest_difference = all.largest_difference.max(difference);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, tensor: Tensor) -> Named {
        Named { name: name.into(), tensor }
    }

    fn floats(values: &[f32]) -> Tensor {
        Tensor::from_vec(&[values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn answers_are_the_same_within_the_tolerance() {
        let whole = |values: &[i64]| Tensor::from_vec(&[values.len()], values.to_vec()).unwrap();
        let half = |value: f32| Tensor::from_vec(&[1], vec![half::f16::from_f32(value)]).unwrap();
        let texts = |text: &str| Tensor::from_strings(&[1], &[text]).unwrap();
        let nan = f32::NAN;
        let cases = [
            (floats(&[1.0, -2.0]), floats(&[1.0, -2.0]), true, 0.0),
            (floats(&[0.0, 0.5]), floats(&[0.009, 0.5]), true, 0.009),
            (floats(&[0.0]), floats(&[0.011]), false, 0.011),
            (floats(&[1000.0]), floats(&[1009.0]), true, 9.0),
            (floats(&[nan, f32::INFINITY]), floats(&[nan, f32::INFINITY]), true, 0.0),
            (floats(&[nan]), floats(&[0.0]), false, 0.0),
            (floats(&[f32::INFINITY]), floats(&[f32::NEG_INFINITY]), false, 0.0),
            (floats(&[1.0]), floats(&[1.0, 2.0]), false, 0.0),
            (floats(&[1.0]), whole(&[1]), false, 0.0),
            (whole(&[3]), whole(&[3]), true, 0.0),
            (whole(&[300]), whole(&[301]), false, 0.0),
            (half(1.0), half(1.5), false, 0.5),
            (texts("a"), texts("a"), true, 0.0),
            (texts("a"), texts("b"), false, 0.0),
        ];
        for (wanted, got, is_same, largest) in cases {
            let compared = tensors(&wanted, &got, 0.01);
            assert_eq!(compared.is_same, is_same, "{wanted:?} {got:?}");
            assert!((compared.largest_difference - largest).abs() < 1e-6, "{wanted:?} {got:?}");
        }
    }

    #[test]
    fn more_outputs_are_no_difference_and_fewer_are() {
        let (a, b) = (named("A", floats(&[1.0])), named("B", floats(&[2.0])));
        let is_same = |wanted: &[Named], got: &[Named]| compare(wanted, got, 0.0).is_same;
        assert!(is_same(std::slice::from_ref(&a), &[b.clone(), a.clone()]));
        assert!(!is_same(&[a.clone(), b], std::slice::from_ref(&a)));
    }

    #[test]
    fn what_is_nobodys_fault_is_dropped() {
        let shadows = Shadows::default();
        let late = GuestError::Deadline { limit: "deadline_ms_max", max: 1 };
        for error in [PredictError::Draining, PredictError::Guest(late)] {
            shadows.note(Err(&error));
        }
        shadows.note(Err(&PredictError::Guest(GuestError::Trap("x".into()))));
        shadows.note(Ok(Compared { is_same: true, largest_difference: 0.5 }));
        shadows.note(Ok(Compared { is_same: false, largest_difference: 0.25 }));
        let wanted = ShadowReport {
            requests: 3,
            same: 1,
            different: 1,
            errors: 1,
            dropped: 2,
            largest_difference: 0.5,
        };
        assert_eq!(shadows.report(), wanted);
    }
}
