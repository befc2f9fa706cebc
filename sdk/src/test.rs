//! Tests of a model on the author's own machine, without WebAssembly: plain `cargo test`, debugger and all.
//!
//! Tensors run on the kernels that the host runs them on, and requests and answers are checked against the signature as
//! the host checks them. What is missing is the sandbox: its limits, its time-outs, its isolation. `innkeeper test`
//! runs the same plugin in that. This module is not there when compiling for WebAssembly.
//!
//! ```
//! use innkeeper_sdk::test::Harness;
//! use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor};
//!
//! struct Lookup {
//!     table: Tensor,
//! }
//!
//! impl Model for Lookup {
//!     fn load(assets: &Assets) -> Result<Self> {
//!         let table = assets.read("table.bin")?;
//!         Ok(Lookup { table: Tensor::from_slice(&[table.len()], &table)? })
//!     }
//!
//!     fn signature(&self) -> Signature {
//!         Signature::new()
//!             .input("INDEX", DType::Int64, &[-1])
//!             .output("VALUE", DType::Uint8, &[-1])
//!     }
//!
//!     fn predict(&self, inputs: Inputs) -> Result<Outputs> {
//!         Ok(Outputs::new().with("VALUE", self.table.gather(inputs.tensor("INDEX")?, 0)?))
//!     }
//! }
//!
//! let model = Harness::<Lookup>::load([("table.bin", vec![10, 20, 30])])?;
//! let inputs = Inputs::new().with("INDEX", Tensor::from_slice(&[2], &[2i64, 0])?);
//! assert_eq!(model.predict(inputs)?.tensor("VALUE")?.to_vec::<u8>()?, [30, 10]);
//!
//! let wrong = Inputs::new().with("INDEX", Tensor::from_slice(&[1], &[2i32])?);
//! let error = model.predict(wrong).unwrap_err();
//! assert_eq!(error.to_string(), r#"input "INDEX" must be INT64, got INT32"#);
//! # Ok::<(), innkeeper_sdk::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use innkeeper_tensor::{Named, Signature as CheckedSignature, TensorSpec as CheckedSpec};

use crate::host::request::Call;
use crate::{Assets, Error, Inputs, Model, Outputs, Result, Signature, Tensor, TensorSpec, host};

/// A loaded model and the checks that the host makes around it.
pub struct Harness<M> {
    model: M,
    signature: CheckedSignature,
}

/// What a request says beside its inputs.
///
/// ```
/// use innkeeper_sdk::test::Request;
///
/// let request = Request::new().id("42").parameter("threshold", "0.5").wants("LABEL");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Request(Call);

impl<M: Model> Harness<M> {
    /// Loads the model with these assets, names and bytes.
    ///
    /// # Errors
    /// What [`Model::load`] answers; [`Error::Internal`] for a signature that no model may have.
    pub fn load<N: Into<String>>(
        assets: impl IntoIterator<Item = (N, Vec<u8>)>,
    ) -> Result<Harness<M>> {
        let assets = assets.into_iter().map(|(name, bytes)| (name.into(), bytes));
        let model = M::load(&Assets(host::Assets::new(assets)))?;
        let signature = checked(model.signature())?;
        Ok(Harness { model, signature })
    }

    /// Loads the model with the assets that the plugin in this folder would be shipped with: those that its
    /// `innkeeper.toml` names. In a plugin's own tests the folder is `env!("CARGO_MANIFEST_DIR")`.
    ///
    /// # Errors
    /// As [`load`](Harness::load); [`Error::NotFound`] for a file that cannot be read, [`Error::InvalidArgument`] for
    /// an `innkeeper.toml` that is none.
    pub fn load_plugin(folder: impl AsRef<Path>) -> Result<Harness<M>> {
        Harness::load(plugin_assets(folder.as_ref())?)
    }

    /// The model itself.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Calls the model: checks the inputs, predicts, checks the outputs.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for inputs that do not fit the signature, what [`Model::predict`] answers, and
    /// [`Error::Internal`] for outputs that do not fit.
    pub fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        self.predict_for(Request::new(), inputs)
    }

    /// As [`predict`](Harness::predict), for a request with an id, parameters or chosen outputs.
    ///
    /// # Errors
    /// As [`predict`](Harness::predict).
    pub fn predict_for(&self, request: Request, inputs: Inputs) -> Result<Outputs> {
        request.0.answer(|| {
            self.signature
                .check_inputs(&named(inputs.iter()))
                .map_err(|mismatch| Error::InvalidArgument(mismatch.to_string()))?;
            let outputs = self.model.predict(inputs)?;
            self.signature
                .check_outputs(&named(outputs.iter()), host::request::wants_output)
                .map_err(|mismatch| Error::Internal(mismatch.to_string()))?;
            Ok(outputs.into_iter().filter(|(name, _)| host::request::wants_output(name)).collect())
        })
    }
}

impl<M> fmt::Debug for Harness<M> {
    /// Shows the signature; a model need not be `Debug` itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("signature", &self.signature).finish_non_exhaustive()
    }
}

impl Request {
    /// A request without an id and without parameters that wants every output.
    pub fn new() -> Request {
        Request::default()
    }

    /// With this id.
    pub fn id(mut self, id: &str) -> Request {
        self.0.id = id.to_owned();
        self
    }

    /// With a parameter, as JSON text: `"\"abc\""`, `"5"`, `"true"`.
    pub fn parameter(mut self, name: &str, json: &str) -> Request {
        self.0.parameters.insert(name.to_owned(), json.to_owned());
        self
    }

    /// Asks for this output; without any, all are wanted.
    pub fn wants(mut self, output: &str) -> Request {
        self.0.outputs.push(output.to_owned());
        self
    }
}

/// Assets of these names and bytes, as a trainer's [`Task`](crate::trainer::Task) has them.
pub fn assets<N: Into<String>>(assets: impl IntoIterator<Item = (N, Vec<u8>)>) -> Assets {
    Assets(host::Assets::new(assets.into_iter().map(|(name, bytes)| (name.into(), bytes))))
}

fn named<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Vec<Named> {
    tensors.map(|(name, tensor)| Named { name: name.into(), tensor: tensor.0.0.clone() }).collect()
}

fn checked(signature: Signature) -> Result<CheckedSignature> {
    let signature = CheckedSignature {
        inputs: signature.inputs.into_iter().map(checked_spec).collect::<Result<_>>()?,
        outputs: signature.outputs.into_iter().map(checked_spec).collect::<Result<_>>()?,
        batch_axis: signature.batch_axis.map(|axis| axis as usize),
        properties: signature.properties,
    };
    signature.check().map_err(|error| Error::Internal(error.to_string()))?;
    Ok(signature)
}

fn checked_spec(spec: TensorSpec) -> Result<CheckedSpec> {
    let name = &spec.name;
    let dimension = |size: i64| match size {
        -1 => Ok(None),
        size => usize::try_from(size).map(Some).map_err(|_| {
            Error::Internal(format!("{name:?} has a dimension of {size}; -1 stands for any size"))
        }),
    };
    let shape = match &spec.shape {
        Some(sizes) => Some(sizes.iter().copied().map(dimension).collect::<Result<_>>()?),
        None => None,
    };
    Ok(CheckedSpec { name: spec.name, dtype: spec.dtype, shape, optional: spec.optional })
}

/// The assets that the folder's `innkeeper.toml` names.
fn plugin_assets(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let read = |path: &str| {
        let path = folder.join(path);
        fs::read(&path)
            .map_err(|error| Error::not_found(format!("cannot read {}: {error}", path.display())))
    };
    let manifest = String::from_utf8_lossy(&read("innkeeper.toml")?)
        .parse::<toml::Table>()
        .map_err(|error| Error::invalid_argument(format!("innkeeper.toml: {error}")))?;
    let entries = manifest.get("assets").and_then(toml::Value::as_array);
    let asset = |entry: &toml::Value| {
        let field = |name| {
            entry.get(name).and_then(toml::Value::as_str).ok_or_else(|| {
                Error::invalid_argument("innkeeper.toml: an [[assets]] entry has a name and a path")
            })
        };
        Ok((field("name")?.to_owned(), read(field("path")?)?))
    };
    entries.into_iter().flatten().map(asset).collect()
}
