//! Looks at a component before anything is compiled or run.

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

/// What a component may be made of. Compiling is an attack surface: the time it takes grows faster than the size of a
/// function and the number of its locals, so both are limited before the compiler sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentLimits {
    /// Bytes of the whole component.
    pub component_bytes_max: usize,
    /// Functions in all its modules.
    pub functions_max: usize,
    /// Bytes of one function's body.
    pub function_bytes_max: usize,
    /// Locals of one function.
    pub locals_max: u64,
    /// Modules and components nested in it.
    pub nested_max: usize,
}

impl Default for ComponentLimits {
    fn default() -> ComponentLimits {
        ComponentLimits {
            component_bytes_max: 64 << 20,
            functions_max: 100_000,
            function_bytes_max: 256 << 10,
            locals_max: 2_000,
            nested_max: 200,
        }
    }
}

/// Why a component is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The bytes are not WebAssembly.
    #[error(
        "not a WebAssembly component: the bytes do not begin with \\0asm; build one with `innkeeper build`"
    )]
    NotWasm,
    /// A core module.
    #[error(
        "this is a core WebAssembly module, and a component is wanted; `innkeeper build` makes one"
    )]
    CoreModule,
    /// Not valid WebAssembly, or WebAssembly that uses what is switched off.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// It imports what the host does not give.
    #[error(
        "the component imports {import:?}, which is not on the allow list ({allowed}); models have no files, \
         network, clock or environment: build for wasm32-unknown-unknown, as `innkeeper build` does"
    )]
    Import {
        /// What it imports.
        import: String,
        /// What it may import.
        allowed: String,
    },
    /// It does not export the model interface.
    #[error("the component does not export {wanted}; it exports {got}")]
    Export {
        /// What is wanted.
        wanted: &'static str,
        /// What it exports.
        got: String,
    },
    /// It goes over a limit.
    #[error("the component goes over the limit {limit} of {max}: {got}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        max: u64,
        /// What came.
        got: u64,
    },
}

const IMPORTS: [&str; 10] = [
    "types",
    "tensors",
    "layers",
    "quantised",
    "random",
    "training",
    "assets",
    "graph",
    "request",
    "log",
];
/// What a component may import of wasi:nn, which is a release candidate: its version is fixed.
const NN_IMPORTS: [&str; 4] = ["tensor", "graph", "inference", "errors"];
const NN_VERSION: &str = "0.2.0-rc-2024-10-28";
const EXPORT: &str = "innkeeper:model/model@0.1";

/// Whether a component may be compiled. Nothing of it is run, and what is looked at is linear in its size.
///
/// # Errors
/// [`Rejected`], saying the first thing that is wrong.
pub fn inspect(component: &[u8], limits: &ComponentLimits) -> Result<(), Rejected> {
    check("component_bytes_max", limits.component_bytes_max as u64, component.len() as u64)?;
    if !component.starts_with(b"\0asm") {
        return Err(Rejected::NotWasm);
    }
    if Parser::is_core_wasm(component) {
        return Err(Rejected::CoreModule);
    }
    let mut walk = Walk { limits, depth: 0, nested: 0, functions: 0, exports: Vec::new() };
    for payload in Parser::new(0).parse_all(component) {
        walk.payload(&payload.map_err(invalid)?)?;
    }
    if !walk.exports.iter().any(|export| is_version_0_1(export, EXPORT)) {
        let wanted = "innkeeper:model/model@0.1.x";
        let got = if walk.exports.is_empty() { "nothing".into() } else { walk.exports.join(", ") };
        return Err(Rejected::Export { wanted, got });
    }
    Validator::new_with_features(features()).validate_all(component).map_err(invalid)?;
    Ok(())
}

struct Walk<'a> {
    limits: &'a ComponentLimits,
    depth: usize,
    nested: usize,
    functions: usize,
    exports: Vec<String>,
}

impl Walk<'_> {
    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), Rejected> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if self.depth == 0 => {
                Err(Rejected::CoreModule)
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.depth += 1;
                self.nested += 1;
                check("nested_max", self.limits.nested_max as u64, self.nested as u64)
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            Payload::CodeSectionStart { count, .. } => {
                self.functions += *count as usize;
                check("functions_max", self.limits.functions_max as u64, self.functions as u64)
            }
            Payload::CodeSectionEntry(body) => self.function(body),
            Payload::ComponentImportSection(imports) if self.depth == 0 => {
                for import in imports.clone() {
                    check_import(import.map_err(invalid)?.name.name)?;
                }
                Ok(())
            }
            Payload::ComponentExportSection(exports) if self.depth == 0 => {
                for export in exports.clone() {
                    self.exports
                        .push(export.map_err(invalid)?.name.name.chars().take(100).collect());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn function(&self, body: &wasmparser::FunctionBody<'_>) -> Result<(), Rejected> {
        let bytes = body.range().len() as u64;
        check("function_bytes_max", self.limits.function_bytes_max as u64, bytes)?;
        let mut locals: u64 = 0;
        for run in body.get_locals_reader().map_err(invalid)? {
            locals = locals.saturating_add(u64::from(run.map_err(invalid)?.0));
        }
        check("locals_max", self.limits.locals_max, locals)
    }
}

fn check(limit: &'static str, max: u64, got: u64) -> Result<(), Rejected> {
    if got > max { Err(Rejected::Limit { limit, max, got }) } else { Ok(()) }
}

fn check_import(name: &str) -> Result<(), Rejected> {
    let allowed = IMPORTS
        .iter()
        .any(|interface| is_version_0_1(name, &format!("innkeeper:model/{interface}@0.1")));
    let of_nn = NN_IMPORTS.iter().any(|interface| {
        name.strip_prefix("wasi:nn/") == Some(&format!("{interface}@{NN_VERSION}"))
    });
    if allowed || of_nn {
        return Ok(());
    }
    let import = name.chars().take(100).collect();
    Err(Rejected::Import {
        import,
        allowed: format!(
            "innkeeper:model/{{{}}}@0.1.x, wasi:nn/{{{}}}@{NN_VERSION}",
            IMPORTS.join(","),
            NN_IMPORTS.join(",")
        ),
    })
}

/// Whether `name` is `base` with any patch version.
fn is_version_0_1(name: &str, base: &str) -> bool {
    name.strip_prefix(base).is_some_and(|rest| {
        rest.strip_prefix('.').is_some_and(|patch| {
            !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

fn invalid(error: wasmparser::BinaryReaderError) -> Rejected {
    Rejected::Invalid(error.to_string())
}

/// The same as the engine's: see `engine::settings`.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::COMPONENT_MODEL
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_matched_by_their_first_two_numbers() {
        assert!(is_version_0_1("innkeeper:model/model@0.1.0", EXPORT));
        assert!(is_version_0_1("innkeeper:model/model@0.1.12", EXPORT));
        for other in ["@0.2.0", "@0.1", "@0.1.", "@0.10.0", "@0.1.0-rc1", ""] {
            assert!(!is_version_0_1(&format!("innkeeper:model/model{other}"), EXPORT), "{other}");
        }
    }

    #[test]
    fn no_bytes_can_panic() {
        for len in 0..40 {
            for fill in [0u8, 1, 0x0a, 0xff] {
                let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
                bytes.resize(8 + len, fill);
                assert!(inspect(&bytes, &ComponentLimits::default()).is_err());
            }
        }
    }
}
