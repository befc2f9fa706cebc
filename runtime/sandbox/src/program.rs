//! A component, compiled and linked, that instances are made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use wasmtime::Store;

use crate::assets::Assets;
use crate::bindings::PluginPre;
use crate::bindings::trainable::exports::innkeeper::model::trainer::GuestIndices as TrainerIndices;
use crate::host::{LogSink, State};
use crate::{ByteBudget, Cancel, Engine, GuestError, Instance, Seal, Trainer, artefact};

/// The export of a trainer; wasmtime finds it under any patch version.
const TRAINER: &str = "innkeeper:model/trainer@0.1.0";

/// A component that is ready to be instantiated. It holds machine code and no state.
pub struct Program {
    engine: Engine,
    pre: PluginPre<State>,
    /// Where its trainer is, when it has one.
    trainer: Option<TrainerIndices>,
    long_operations: Arc<AtomicBool>,
}

/// Sealed code that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Somebody changed it, or it is for another engine or component.
    #[error("the compiled code was changed, or was made for another engine")]
    Seal,
    /// It does not fit the world that the host offers.
    #[error("the component does not fit the world innkeeper:model/plugin: {0}")]
    World(String),
}

/// What one instance may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// Bytes of linear memory.
    pub guest_memory_bytes_max: u64,
    /// Table elements.
    pub table_elements_max: u64,
    /// Tensor handles.
    pub handles_max: u64,
    /// Bytes handed to the host in one call.
    pub hostcall_bytes_max: u64,
    /// Bytes of all outputs of one prediction.
    pub output_bytes_max: u64,
    /// Bytes of log per prediction.
    pub log_bytes_max: u64,
}

/// What an instance is made with.
pub struct Setup {
    /// The version's read-only files.
    pub assets: Arc<Assets>,
    /// What it may use.
    pub limits: InstanceLimits,
    /// Where the bytes behind its tensors are counted.
    pub tensor_bytes: Arc<ByteBudget>,
    /// Where its log goes.
    pub log: Arc<dyn LogSink>,
    /// When `load` is stopped.
    pub deadline: Instant,
    /// The milliseconds that `deadline` stands for, for the error's text.
    pub load_ms_max: u64,
    /// Stops `load` earlier.
    pub cancel: Cancel,
}

impl Program {
    /// Opens sealed code.
    ///
    /// # Errors
    /// [`OpenError::Seal`]: compile the component anew. [`OpenError::World`]: refuse it.
    pub fn open(
        engine: &Engine,
        seal: &Seal,
        digest: &[u8; 32],
        sealed: &[u8],
    ) -> Result<Program, OpenError> {
        let inner = &engine.0;
        let component =
            artefact::deserialize(&inner.wasmtime, seal, &engine.fingerprint(), digest, sealed)
                .ok_or(OpenError::Seal)?
                .map_err(|_| OpenError::Seal)?;
        let world = |error: wasmtime::Error| OpenError::World(format!("{error:#}"));
        let pre = inner.linker.instantiate_pre(&component).map_err(world)?;
        // A trainer that does not fit the contract is refused with the model, not at the first job.
        let trainer = match component.get_export_index(None, TRAINER) {
            Some(_) => Some(TrainerIndices::new(&pre).map_err(world)?),
            None => None,
        };
        Ok(Program {
            engine: engine.clone(),
            pre: PluginPre::new(pre).map_err(world)?,
            trainer,
            long_operations: Arc::default(),
        })
    }

    /// The engine it runs on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether one of its guests has ever asked the host for an operation that takes long. Operations are not
    /// interrupted, so such guests do not belong on threads that others wait for.
    pub fn has_long_operations(&self) -> bool {
        self.long_operations.load(Ordering::Relaxed)
    }

    /// Whether it can be trained.
    pub fn has_trainer(&self) -> bool {
        self.trainer.is_some()
    }

    /// A fresh instance that has run the guest's `load`.
    ///
    /// # Errors
    /// Whatever `load` did, or [`GuestError::Busy`] when there is no room.
    pub async fn instantiate(&self, setup: Setup) -> Result<Instance, GuestError> {
        let mut store = self.store(setup);
        match self.pre.instantiate_async(&mut store).await {
            Ok(plugin) => Instance::load(store, plugin).await,
            Err(error) => Err(store.data().explain(&error)),
        }
    }

    /// A fresh instance that will learn. The model's `load` is not run.
    ///
    /// # Errors
    /// [`GuestError::Failed`] where there is no trainer, [`GuestError::Busy`] when there is no room.
    pub async fn trainer(&self, setup: Setup) -> Result<Trainer, GuestError> {
        let Some(indices) = &self.trainer else {
            return Err(GuestError::Failed(
                "it exports no trainer; add one with #[innkeeper_sdk::trainer]".into(),
            ));
        };
        let mut store = self.store(setup);
        let instance = self.pre.instance_pre().instantiate_async(&mut store).await;
        let guest = instance.and_then(|instance| indices.load(&mut store, &instance));
        match guest {
            Ok(guest) => Ok(Trainer::new(store, guest)),
            Err(error) => Err(store.data().explain(&error)),
        }
    }

    fn store(&self, setup: Setup) -> Store<State> {
        let engine = &self.engine.0;
        let (hostcall_bytes, handles) = (setup.limits.hostcall_bytes_max, setup.limits.handles_max);
        let state = State::new(
            setup,
            engine.guest_memory_bytes_max,
            engine.stack_bytes_max,
            Arc::clone(&self.long_operations),
            Arc::clone(&engine.kernels),
            Arc::clone(engine.runner.threads()),
        );
        let mut store = Store::new(&engine.wasmtime, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(usize::try_from(hostcall_bytes).unwrap_or(usize::MAX));
        store.set_max_component_handles(usize::try_from(handles).unwrap_or(usize::MAX));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| store.data().on_epoch());
        store
    }
}
