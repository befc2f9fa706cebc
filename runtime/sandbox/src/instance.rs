//! One guest in its own store.

use std::sync::Arc;
use std::time::Instant;

use innkeeper_tensor::{Named, Signature, TensorSpec};
use wasmtime::Store;

use crate::bindings::Plugin;
use crate::bindings::exports::innkeeper::model::model as wit;
use crate::bindings::innkeeper::model::types;
use crate::host::{Current, State, dtype_from_wit};
use crate::{Cancel, GuestError, Work};

/// A guest that has been loaded. It answers one call at a time, and none after an error that it did not answer itself.
pub struct Instance {
    store: Store<State>,
    plugin: Plugin,
}

/// One prediction, as the guest sees it.
pub struct Call {
    /// The caller's id of the request.
    pub id: String,
    /// The request's parameters, each as JSON text.
    pub parameters: Arc<Vec<(String, String)>>,
    /// The inputs, already held against the signature.
    pub inputs: Vec<Named>,
    /// The outputs that are wanted; all when empty.
    pub outputs: Arc<Vec<String>>,
    /// When the guest is stopped.
    pub deadline: Instant,
    /// The milliseconds that `deadline` stands for, for the error's text.
    pub deadline_ms_max: u64,
    /// Stops the guest earlier.
    pub cancel: Cancel,
    /// Where it is counted what kernels do for it, if anybody asks.
    pub work: Option<Arc<Work>>,
}

impl Instance {
    pub(crate) async fn load(store: Store<State>, plugin: Plugin) -> Result<Instance, GuestError> {
        let mut instance = Instance { store, plugin };
        let model = instance.plugin.innkeeper_model_model();
        let result = model.call_load(&mut instance.store).await;
        instance.answer(result)?;
        Ok(instance)
    }

    /// The signature that the guest says it has, not yet checked. Runs under the deadline that the instance was made
    /// with.
    ///
    /// # Errors
    /// Whatever `describe` did.
    pub async fn describe(&mut self) -> Result<Signature, GuestError> {
        let result = self.plugin.innkeeper_model_model().call_describe(&mut self.store).await;
        self.answer(result).and_then(signature_from_wit)
    }

    /// The guest's outputs, not yet held against the signature.
    ///
    /// # Errors
    /// Whatever `predict` did, and [`GuestError::Limit`] for outputs that are too large.
    pub async fn predict(&mut self, call: Call) -> Result<Vec<Named>, GuestError> {
        let state = self.store.data_mut();
        let inputs = state.push_inputs(call.inputs)?;
        state.begin(Current {
            id: call.id,
            parameters: call.parameters,
            outputs: call.outputs,
            deadline: call.deadline,
            limit: "deadline_ms_max",
            limit_ms: call.deadline_ms_max,
            cancel: call.cancel,
            work: call.work,
        });
        self.store.set_epoch_deadline(1);
        let model = self.plugin.innkeeper_model_model();
        let result = model.call_predict(&mut self.store, &inputs).await;
        let outputs = self.answer(result)?;
        self.store.data_mut().take_outputs(outputs)
    }

    /// Whether the guest has kept so many handles that its next calls might fail for it; a fresh one will do better.
    pub fn is_worn(&self) -> bool {
        self.store.data().is_worn()
    }

    /// Whether the guest holds on to bytes that count against the budget.
    pub fn holds_tensors(&self) -> bool {
        self.store.data().holds_tensors()
    }

    fn answer<T>(
        &mut self,
        result: wasmtime::Result<Result<T, types::Error>>,
    ) -> Result<T, GuestError> {
        self.store.data_mut().end();
        match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.store.data().answered(error)),
            Err(error) => Err(self.store.data().explain(&error)),
        }
    }
}

fn signature_from_wit(signature: wit::Signature) -> Result<Signature, GuestError> {
    let specs = |specs: Vec<types::TensorSpec>| -> Result<Vec<TensorSpec>, GuestError> {
        specs.into_iter().map(spec_from_wit).collect()
    };
    Ok(Signature {
        inputs: specs(signature.inputs)?,
        outputs: specs(signature.outputs)?,
        batch_axis: signature.batch_axis.map(|axis| axis as usize),
        properties: signature.properties,
    })
}

fn spec_from_wit(spec: types::TensorSpec) -> Result<TensorSpec, GuestError> {
    let size = |dim: i64| match dim {
        -1 => Ok(None),
        _ => usize::try_from(dim).map(Some).map_err(|_| {
            let name = &spec.name;
            GuestError::Failed(format!("{name:?} has a dimension of {dim}; wanted a size, or -1"))
        }),
    };
    let shape = spec.shape.as_ref().map(|dims| dims.iter().map(|&dim| size(dim)).collect());
    let shape = shape.transpose()?;
    Ok(TensorSpec {
        dtype: dtype_from_wit(spec.dtype),
        shape,
        optional: spec.optional,
        name: spec.name,
    })
}
