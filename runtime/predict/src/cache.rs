//! Answers that are given again to whoever asks the same.

use std::sync::{Mutex, MutexGuard, PoisonError};

use innkeeper_tensor::{Buffer, Named, Tensor};
use lru::LruCache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Request;

/// Bytes of inputs that are worth looking for: larger ones cost more to hash than most answers cost to make.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// What an answer takes beside its tensors, about.
const ENTRY_BYTES: u64 = 256;

/// Whether a model's answers are kept, as its manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caching {
    /// The model always answers the same to the same request, and its answers may be kept.
    pub enabled: bool,
}

/// What was asked: a digest over the version, the inputs, the parameters and the wanted outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question([u8; 32]);

impl Question {
    /// `None` for what is not to be looked for.
    pub(crate) fn of(request: &Request) -> Option<Question> {
        let Request { deployment, parameters, inputs, outputs, .. } = request;
        let bytes: usize = inputs.iter().map(|input| input.tensor.data().len()).sum();
        if !deployment.caches() || bytes > INPUT_BYTES_MAX {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update(deployment.digest.as_bytes());
        let mut add = |part: &[u8]| {
            // With its length, so that no two questions are written the same.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&counts(&[parameters.len(), inputs.len(), outputs.len()]));
        for (name, value) in parameters {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        outputs.iter().for_each(|output| add(output.as_bytes()));
        for Named { name, tensor } in inputs {
            add(name.as_bytes());
            add(tensor.dtype().name().as_bytes());
            add(&counts(tensor.shape().dims()));
            add(tensor.as_bytes());
        }
        Some(Question(hash.finalize().into()))
    }
}

fn counts(numbers: &[usize]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| (number as u64).to_le_bytes()).collect()
}

/// One tenant's answers, those that were wanted last.
pub(crate) struct Cache(Mutex<Kept>);

struct Kept {
    answers: LruCache<Question, (Vec<Named>, u64)>,
    bytes: u64,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache(Mutex::new(Kept { answers: LruCache::unbounded(), bytes: 0 }))
    }

    pub(crate) fn get(&self, question: &Question) -> Option<Vec<Named>> {
        self.kept().answers.get(question).map(|(answer, _)| answer.clone())
    }

    /// Keeps an answer for as long as there is no more than `bytes_max` of newer ones.
    pub(crate) fn put(&self, question: Question, answer: &[Named], bytes_max: u64) {
        let size = |named: &Named| (named.name.len() + named.tensor.data().len()) as u64;
        let bytes = answer.iter().map(size).sum::<u64>() + ENTRY_BYTES;
        if bytes > bytes_max {
            return;
        }
        let own: Vec<Named> = answer.iter().map(copied).collect();
        let mut kept = self.kept();
        if let Some((_, (_, old))) = kept.answers.push(question, (own, bytes)) {
            kept.bytes -= old;
        }
        kept.bytes += bytes;
        while kept.bytes > bytes_max
            && let Some((_, (_, old))) = kept.answers.pop_lru()
        {
            kept.bytes -= old;
        }
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept().bytes
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tensor with bytes of its own: those of a batch are shared, and would all be kept.
fn copied(named: &Named) -> Named {
    let Named { name, tensor } = named;
    let data = Buffer::aligned_copy(tensor.as_bytes());
    let own = Tensor::new(tensor.dtype(), tensor.shape().clone(), data);
    Named { name: name.clone(), tensor: own.unwrap_or_else(|_| tensor.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(elements: usize) -> Vec<Named> {
        let tensor = Tensor::from_vec(&[elements], vec![1.5f32; elements]).unwrap();
        vec![Named { name: "Y".into(), tensor }]
    }

    #[test]
    fn what_was_wanted_last_is_kept_within_the_bound() {
        let (cache, max) = (Cache::new(), 3 * (1_000 + 1 + ENTRY_BYTES));
        let question = |n| Question([n; 32]);
        for n in 0..3 {
            cache.put(question(n), &answer(250), max);
        }
        assert_eq!(cache.bytes(), max);
        assert!(cache.get(&question(0)).is_some(), "wanted again, so that it stays");
        cache.put(question(3), &answer(250), max);
        assert_eq!(cache.bytes(), max);
        assert!(cache.get(&question(1)).is_none(), "the one that was wanted longest ago goes");
        let kept = [0, 2, 3].map(|n| cache.get(&question(n)).map(|got| got[0].tensor.clone()));
        assert!(kept.iter().all(|kept| kept.as_ref() == Some(&answer(250)[0].tensor)));
        cache.put(question(4), &answer(10_000), max);
        assert!(cache.get(&question(4)).is_none(), "larger than all there is");
        assert!(cache.get(&question(0)).is_some(), "and nothing goes for it");
        cache.put(question(0), &answer(1), max);
        assert_eq!(cache.bytes(), max - 996, "the same question again takes its place");
        cache.put(question(5), &answer(1), 300);
        assert!(cache.bytes() <= 300, "a bound that was lowered holds from the next on");
    }

    #[test]
    fn a_kept_answer_has_bytes_of_its_own() {
        let whole = Tensor::from_vec(&[4, 100], vec![1u8; 400]).unwrap();
        let cache = Cache::new();
        let asked = [Named { name: "Y".into(), tensor: whole }];
        cache.put(Question([0; 32]), &asked, 1 << 20);
        let kept = cache.get(&Question([0; 32])).unwrap();
        assert_ne!(kept[0].tensor.as_bytes().as_ptr(), asked[0].tensor.as_bytes().as_ptr());
        assert_eq!(kept[0].tensor, asked[0].tensor);
    }
}
