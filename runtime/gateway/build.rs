//! Makes Rust of the protocols' definitions.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["inference.proto", "health.proto"], ["proto"])?;
    // For server reflection.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&files))?;
    prost_build::Config::new()
        .btree_map(["."])
        // Parts of the message that came, not copies.
        .bytes([
            ".inference.ModelInferRequest.raw_input_contents",
            ".inference.InferTensorContents.bytes_contents",
            ".inference.ModelRepositoryParameter.bytes_param",
        ])
        .compile_fds(files)?;
    Ok(())
}
