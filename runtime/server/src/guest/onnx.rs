//! The code of models that have none of their own: `plugins/onnx`, as a component.

use anyhow::{Context, Result, anyhow};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What the names of ONNX files end in.
pub const SUFFIX: &str = ".onnx";

const CODE: &str = include_str!("../../../../plugins/onnx/onnx.wat");
const CONTRACT: &str = include_str!("../../../../wit/model.wit");
const NN: &str = include_str!("../../../../wit/deps/nn/wasi-nn.wit");

/// A component that serves the ONNX file among its assets. It is the same for every model.
///
/// # Errors
/// None that depends on anything but this program.
pub fn component() -> Result<Vec<u8>> {
    let text = |error| anyhow!("{error:#}");
    let mut module = wat::parse_str(CODE).context("the code for ONNX files does not parse")?;
    let mut wit = Resolve::default();
    wit.push_str("wasi-nn.wit", NN).map_err(text)?;
    let package = wit.push_str("model.wit", CONTRACT).map_err(text)?;
    let world = wit.select_world(&[package], Some("plugin")).map_err(text)?;
    embed_component_metadata(&mut module, &wit, world, StringEncoding::UTF8).map_err(text)?;
    let encoder = ComponentEncoder::default().validate(true).module(&module).map_err(text)?;
    { encoder }.encode().map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_one_that_the_host_takes() {
        let made = component().unwrap();
        innkeeper_sandbox::inspect(&made, &innkeeper_sandbox::ComponentLimits::default()).unwrap();
        assert_eq!(made, component().unwrap());
        assert!(made.len() < 16 << 10, "{} bytes", made.len());
    }
}
