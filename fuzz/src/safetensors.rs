//! Files of weights.

use innkeeper_tensor::Buffer;

/// Reads the file; each of its tensors must lie in it.
pub fn check(bytes: &[u8]) {
    let file = Buffer::from_vec(bytes.to_vec());
    let Ok(tensors) = innkeeper_formats::safetensors::tensors(&file) else { return };
    for (name, tensor) in tensors {
        let size = tensor.dtype().size().expect("safetensors has no strings");
        let bytes = tensor.as_bytes();
        assert_eq!(bytes.len(), tensor.shape().elements() * size, "{name:?}");
        assert!(bytes.len() <= file.len(), "{name:?} is larger than the file");
        assert!((bytes.as_ptr() as usize).is_multiple_of(size), "{name:?} lies askew");
        // Every byte is read, so that a sanitizer sees one that is not the file's.
        std::hint::black_box(bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)));
    }
}
