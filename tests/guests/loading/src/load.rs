//! What `load` does.

use std::hint::black_box;

use innkeeper_sdk::{Assets, DType, Error, Result, Tensor, log, request};

pub(crate) fn run(mode: &str, assets: &Assets) -> Result<()> {
    match mode {
        "spin" => spin(),
        "panic" => panic!("the guest was told to panic in load"),
        "memory" => memory(),
        "tensor-bytes" => tensor_bytes(),
        "log" => {
            log::info!("{} assets", assets.list().len());
            Ok(())
        }
        "request" => no_request(),
        "invalid-argument" => Err(Error::invalid_argument("mode.txt said invalid-argument")),
        "not-found" => Err(Error::not_found("mode.txt said not-found")),
        "unsupported" => Err(Error::unsupported("mode.txt said unsupported")),
        "resource-exhausted" => Err(Error::resource_exhausted("mode.txt said resource-exhausted")),
        "internal" => Err(Error::internal("mode.txt said internal")),
        "absent-asset" => assets.read("absent.bin").map(drop),
        "read-past" => read_past(assets),
        "weights" => weights(assets),
        _ => Ok(()),
    }
}

fn spin() -> ! {
    let mut rounds = 0u64;
    loop {
        rounds = black_box(rounds.wrapping_add(1));
    }
}

fn memory() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1u8; 1 << 20]));
    }
}

fn tensor_bytes() -> Result<()> {
    loop {
        std::mem::forget(Tensor::full(DType::Uint8, &[1 << 20], 1.0)?);
    }
}

/// In `load` there is no request; answers what was found otherwise.
fn no_request() -> Result<()> {
    let id = request::id();
    let parameter = request::parameter("p");
    if id.is_empty() && parameter.is_none() && request::wants_output("OUTPUT0") {
        return Ok(());
    }
    Err(Error::internal(format!("load has a request: id {id:?}, parameter {parameter:?}")))
}

/// Reading beyond the end gives what there is.
fn read_past(assets: &Assets) -> Result<()> {
    let all = assets.read("mode.txt")?;
    for (offset, length) in [(0, u64::MAX), (u64::MAX, u64::MAX), (2, 1 << 40)] {
        let got = assets.read_at("mode.txt", offset, length)?;
        let wanted = all.get(usize::try_from(offset).unwrap_or(all.len())..).unwrap_or_default();
        if got != wanted {
            return Err(Error::internal(format!(
                "from {offset} on there were {} bytes",
                got.len()
            )));
        }
    }
    Ok(())
}

/// Opens every tensor of the asset `weights.safetensors`.
fn weights(assets: &Assets) -> Result<()> {
    let weights = assets.weights("weights.safetensors");
    for name in weights.names()? {
        let tensor = weights.tensor(&name)?;
        log::info!("{name}: {} {:?}", tensor.dtype(), tensor.shape());
    }
    Ok(())
}
