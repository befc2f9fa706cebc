//! A version's read-only files, as its guests see them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use innkeeper_tensor::{Buffer, Tensor};

use crate::{ByteBudget, Charge, Network, OverBudget};

/// One read-only file.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its name in the manifest.
    pub name: String,
    /// "sha256:" and 64 hexadecimal digits.
    pub digest: String,
    /// Its bytes.
    pub bytes: Buffer,
    /// The tensors in it, when it is a file of tensors: views of `bytes`. Files of the same bytes share them.
    pub tensors: Arc<BTreeMap<String, Tensor>>,
    /// The network in it, when it is an ONNX file. Files of the same bytes share it.
    pub network: Option<Arc<Network>>,
    /// What it counts against.
    pub memory: Arc<AssetMemory>,
}

/// The files of one version, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Assets(BTreeMap<String, Asset>);

impl Assets {
    /// These files. Of two with one name the later stays.
    pub fn new(assets: impl IntoIterator<Item = Asset>) -> Assets {
        Assets(assets.into_iter().map(|asset| (asset.name.clone(), asset)).collect())
    }

    /// The file of this name.
    pub fn get(&self, name: &str) -> Option<&Asset> {
        self.0.get(name)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Asset> {
        self.0.values()
    }

    /// Bytes of all of them.
    pub fn byte_length(&self) -> u64 {
        self.iter().map(|asset| asset.bytes.len() as u64).sum()
    }
}

const ASSET_LIMIT: &str = "asset_memory_bytes_max";

/// What one file takes of its owner's memory, with everything that the host derives from it, such as weights in the
/// order in which a kernel reads them. One for all versions of the owner's that have the file; the bytes are given back
/// with the last of them.
#[derive(Debug)]
pub struct AssetMemory {
    charge: Mutex<Charge>,
    /// How many derived bytes are counted for each tensor.
    derived: HashMap<String, Arc<AtomicU64>>,
    /// How many bytes are counted for the network, beside those of its file.
    network: Arc<AtomicU64>,
}

impl AssetMemory {
    /// Counts the bytes of a file.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub fn new(
        budget: &Arc<ByteBudget>,
        bytes: u64,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<AssetMemory, OverBudget> {
        let charge = Mutex::new(budget.charge(bytes)?);
        let derived = tensors.keys().map(|name| (name.clone(), Arc::default())).collect();
        Ok(AssetMemory { charge, derived, network: Arc::default() })
    }

    /// The part that is counted for one tensor.
    pub(crate) fn of(self: &Arc<AssetMemory>, tensor: &str) -> Option<Derived> {
        let counted = Arc::clone(self.derived.get(tensor)?);
        Some(Derived { memory: Arc::clone(self), counted, limit: ASSET_LIMIT })
    }

    /// The part that is counted for the network.
    pub(crate) fn of_network(self: &Arc<AssetMemory>) -> Derived {
        let counted = Arc::clone(&self.network);
        Derived { memory: Arc::clone(self), counted, limit: ASSET_LIMIT }
    }

    /// Counts what a network holds.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub fn count_network(self: &Arc<AssetMemory>, network: &Network) -> Result<(), OverBudget> {
        self.of_network().count_bytes(network.byte_length())
    }
}

/// What is counted for one weight beyond its own bytes.
#[derive(Clone, Debug)]
pub(crate) struct Derived {
    memory: Arc<AssetMemory>,
    counted: Arc<AtomicU64>,
    limit: &'static str,
}

impl Derived {
    /// For a weight that a guest made itself, and pays for.
    pub(crate) fn of_guest(budget: &Arc<ByteBudget>) -> Result<Derived, OverBudget> {
        let memory = Arc::new(AssetMemory::new(budget, 0, &BTreeMap::new())?);
        Ok(Derived { memory, counted: Arc::default(), limit: "tensor_bytes_max" })
    }

    /// What there is too little of when counting fails.
    pub(crate) fn limit(&self) -> &'static str {
        self.limit
    }

    /// Counts what has been derived since it was last looked at.
    pub(crate) fn count(&self, tensor: &Tensor) -> Result<(), OverBudget> {
        self.count_bytes(tensor.derived_byte_length() as u64)
    }

    /// Counts this many bytes, if more than were counted so far.
    pub(crate) fn count_bytes(&self, bytes: u64) -> Result<(), OverBudget> {
        if self.counted.load(Ordering::Relaxed) >= bytes {
            return Ok(());
        }
        let mut charge = self.memory.charge.lock().unwrap_or_else(PoisonError::into_inner);
        let more = bytes.saturating_sub(self.counted.load(Ordering::Relaxed));
        charge.grow(more)?;
        self.counted.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::Derived as Kept;

    use super::*;

    struct Packed;

    impl Kept for Packed {
        fn byte_length(&self) -> usize {
            40
        }
    }

    #[test]
    fn what_is_derived_counts_once_and_comes_back() {
        let budget = ByteBudget::new(100);
        let tensor = Tensor::from_vec(&[2], vec![1f32, 2.0]).unwrap().constant();
        let tensors = BTreeMap::from([("w".to_owned(), tensor.clone())]);
        let memory = Arc::new(AssetMemory::new(&budget, 50, &tensors).unwrap());
        let (first, second) = (memory.of("w").unwrap(), memory.of("w").unwrap());
        first.count(&tensor).unwrap();
        assert_eq!(budget.used(), 50);
        tensor.derived(|| Packed);
        first.count(&tensor).unwrap();
        second.count(&tensor).unwrap();
        assert_eq!(budget.used(), 90);
        assert!(AssetMemory::new(&budget, 11, &tensors).is_err());
        drop((memory, first, second));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_each_time() {
        let budget = ByteBudget::new(60);
        let tensor = Tensor::from_vec(&[2], vec![1f32, 2.0]).unwrap().constant();
        let tensors = BTreeMap::from([("w".to_owned(), tensor.clone())]);
        let memory = Arc::new(AssetMemory::new(&budget, 50, &tensors).unwrap());
        tensor.derived(|| Packed);
        let derived = memory.of("w").unwrap();
        for _ in 0..2 {
            assert_eq!(
                derived.count(&tensor).unwrap_err(),
                OverBudget { max: 60, used: 50, asked: 40 }
            );
        }
    }
}
