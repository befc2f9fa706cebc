//! What a model asks to be computed on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The device that runs a model's tensor operations: `auto`, `cpu`, or `cuda:0` and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The host chooses, and always finds one.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number, by CUDA.
    Cuda(u16),
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device; wanted \"auto\", \"cpu\" or \"cuda:0\"")]
pub struct DeviceError(String);

impl Device {
    /// Whether nothing is asked for.
    pub fn is_auto(&self) -> bool {
        *self == Device::Auto
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Device, DeviceError> {
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain && (text == "0" || !text.starts_with('0')))
        };
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            _ => text.strip_prefix("cuda:").and_then(number).map(Device::Cuda).ok_or_else(|| {
                let short: String = text.chars().take(32).collect();
                DeviceError(short)
            }),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Device, DeviceError> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:15"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        for text in
            ["", "gpu", "CPU", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda:99999"]
        {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
