//! The driver's context on a device, events, and the driver's errors.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use crate::cuda::CudaError;
use crate::cuda::machine::Facts;

/// What our bindings were made for: CUDA 13.0. An older driver lacks functions of it.
const VERSION_MIN: i32 = 13_000;
/// 16-bit floats on tensor cores, and conversions to BF16.
const CAPABILITY_MIN: (i32, i32) = (8, 0);

/// The context that all users of a device in this process share.
pub(super) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: The driver's functions may be called by any thread; a context is a name for what the driver guards itself.
unsafe impl Send for Context {}
// SAFETY: As above.
unsafe impl Sync for Context {}

impl Context {
    pub(super) fn open(ordinal: u32) -> Result<Context, CudaError> {
        // SAFETY: Loading the driver's library runs its initialisers; it is where the system finds libraries.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::Absent(
                "there is no NVIDIA driver (libcuda) on this machine; use device = \"cpu\", or install a driver of CUDA 13.0 or later"
                    .to_owned(),
            ));
        }
        // SAFETY: It takes no pointers.
        check("cuInit", unsafe { sys::cuInit(0) })?;
        let mut version = 0;
        // SAFETY: The pointer is to a number that lives until it returns, as all below.
        check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut version) })?;
        if version < VERSION_MIN {
            let (major, minor) = (version / 1000, version % 1000 / 10);
            return Err(CudaError::Absent(format!(
                "the NVIDIA driver is one of CUDA {major}.{minor}; install one of CUDA 13.0 or later"
            )));
        }
        let mut count = 0;
        // SAFETY: As above.
        check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&mut count) })?;
        let index =
            i32::try_from(ordinal).ok().filter(|&index| index < count).ok_or_else(|| {
                CudaError::Absent(format!(
                    "there is no device cuda:{ordinal}; this machine has {count}"
                ))
            })?;
        let mut device = 0;
        // SAFETY: As above.
        check("cuDeviceGet", unsafe { sys::cuDeviceGet(&mut device, index) })?;
        let mut context = ptr::null_mut();
        // SAFETY: As above; it is released when this is dropped.
        check("cuDevicePrimaryCtxRetain", unsafe {
            sys::cuDevicePrimaryCtxRetain(&mut context, device)
        })?;
        let opened = Context { device, context };
        opened.enter()?;
        opened.require()?;
        Ok(opened)
    }

    /// Makes it the calling thread's, which everything else needs.
    pub(super) fn enter(&self) -> Result<(), CudaError> {
        // SAFETY: The context is held until this is dropped.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }

    pub(super) fn device(&self) -> sys::CUdevice {
        self.device
    }

    fn require(&self) -> Result<(), CudaError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let capability = self.capability()?;
        if capability < CAPABILITY_MIN {
            let (major, minor) = capability;
            return Err(CudaError::Absent(format!(
                "the device's compute capability is {major}.{minor}; 8.0 or later is needed"
            )));
        }
        if self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? == 0 {
            return Err(CudaError::Absent("the device has no memory pools".to_owned()));
        }
        Ok(())
    }

    fn capability(&self) -> Result<(i32, i32), CudaError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let major = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok((major, minor))
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<i32, CudaError> {
        let mut value = 0;
        // SAFETY: The pointer is to a number that lives until it returns.
        check("cuDeviceGetAttribute", unsafe {
            sys::cuDeviceGetAttribute(&mut value, attribute, self.device)
        })?;
        Ok(value)
    }

    pub(super) fn facts(&self, library: bool) -> Result<Facts, CudaError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let mut name = [0u8; 256];
        // SAFETY: The pointer is to so many bytes, the last of which stays 0.
        check("cuDeviceGetName", unsafe {
            sys::cuDeviceGetName(name.as_mut_ptr().cast::<c_char>(), 255, self.device)
        })?;
        let name = CStr::from_bytes_until_nul(&name).map_or("", |name| name.to_str().unwrap_or(""));
        let (major, minor) = self.capability()?;
        let count = |value: i32| u32::try_from(value).unwrap_or(0);
        let shared = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let processors = Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        Ok(Facts {
            name: name.to_owned(),
            arch: arch(major, minor),
            processors: count(self.attribute(processors)?),
            shared_bytes_max: count(self.attribute(shared)?),
            library,
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: It was retained once, when this was made.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// What kernels are compiled for. From Hopper on an architecture has parts of its own, which `a` asks for.
fn arch(major: i32, minor: i32) -> String {
    let own = if major >= 9 { "a" } else { "" };
    format!("sm_{major}{minor}{own}")
}

/// A point in a stream's work.
pub(super) struct Event {
    event: sys::CUevent,
    _context: Arc<Context>,
}

// SAFETY: As for the context: an event is a name for what the driver guards itself.
unsafe impl Send for Event {}

impl Event {
    pub(super) fn new(context: &Arc<Context>) -> Result<Event, CudaError> {
        let flags = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
        let mut event = ptr::null_mut();
        // SAFETY: The pointer is to a value that lives until it returns.
        check("cuEventCreate", unsafe { sys::cuEventCreate(&mut event, flags) })?;
        Ok(Event { event, _context: context.clone() })
    }

    /// After everything that the stream has now.
    pub(super) fn record(&self, stream: sys::CUstream) -> Result<(), CudaError> {
        // SAFETY: Event and stream live.
        check("cuEventRecord", unsafe { sys::cuEventRecord(self.event, stream) })
    }

    /// Before everything that the stream is given from here on.
    pub(super) fn before(&self, stream: sys::CUstream) -> Result<(), CudaError> {
        // SAFETY: Event and stream live; the driver keeps what it needs of the event when it is destroyed.
        check("cuStreamWaitEvent", unsafe { sys::cuStreamWaitEvent(stream, self.event, 0) })
    }

    /// Waits for it.
    pub(super) fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: The event lives.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.event) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: It was made by `new`, and is dropped once.
        let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
    }
}

/// The driver's answer as ours.
pub(super) fn check(what: &str, result: sys::CUresult) -> Result<(), CudaError> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text: *const c_char = ptr::null();
    // SAFETY: The pointer is to a value that lives until it returns.
    let known = unsafe { sys::cuGetErrorString(result, &mut text) };
    let text = if known == sys::CUresult::CUDA_SUCCESS && !text.is_null() {
        // SAFETY: The driver's texts end with NUL and live as long as the process.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    Err(CudaError::Device(format!("{what}: {result:?} {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_named_as_nvrtc_names_them() {
        for (capability, wanted) in
            [((8, 0), "sm_80"), ((8, 9), "sm_89"), ((9, 0), "sm_90a"), ((10, 0), "sm_100a")]
        {
            assert_eq!(arch(capability.0, capability.1), wanted);
        }
    }
}
