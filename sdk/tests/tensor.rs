//! What the SDK itself adds around the operations: conversions and their errors.

use innkeeper_sdk::{DType, Error, Tensor, bf16, f16};

#[test]
fn elements_come_back_in_every_type() {
    macro_rules! check {
        ($($type:ty: $value:expr),*) => {$(
            let x = Tensor::from_slice(&[2], &[<$type>::default(), $value]).unwrap();
            assert_eq!(x.to_vec::<$type>().unwrap(), [<$type>::default(), $value]);
            assert_eq!(x.byte_length(), 2 * size_of::<$type>() as u64);
        )*};
    }
    check!(u8: 1, u16: 2, u32: 3, u64: 4, i8: -1, i16: -2, i32: -3, i64: -4, f32: 0.5, f64: 0.25);
    check!(f16: f16::ONE, bf16: bf16::ONE);
}

#[test]
fn what_does_not_fit_is_the_callers_mistake() {
    let floats = Tensor::from_slice(&[1], &[1f32]).unwrap();
    let bytes = Tensor::from_strings(&[1], &[[0xff]]).unwrap();
    let cases = [
        (Tensor::from_slice(&[3], &[0f32; 2]).map(drop), "takes 12 bytes, got 8"),
        (Tensor::from_bytes(DType::Bool, &[1], &[2]).map(drop), "must be 0 or 1"),
        (Tensor::from_bytes(DType::Bytes, &[1], &[9, 0, 0, 0]).map(drop), "past the end"),
        (Tensor::from_slice::<u8>(&[1 << 40, 0], &[]).map(drop), "below 2^32"),
        (Tensor::full(DType::Fp32, &[1; 99], 0.0).map(drop), "at most 16 dimensions"),
        (floats.to_vec::<f64>().map(drop), "the tensor is FP32, not FP64"),
        (floats.to_bools().map(drop), "the tensor is FP32, not BOOL"),
        (floats.to_strings().map(drop), "the tensor is FP32, not BYTES"),
        (bytes.to_strings().map(drop), "BYTES element 0 is no text"),
        (floats.read(3, 2).map(drop), "the tensor has 4"),
        (floats.read(u64::MAX, u64::MAX).map(drop), "the tensor has 4"),
    ];
    for (got, text) in cases {
        let error = got.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
        assert!(error.text().contains(text), "{error} has no {text:?}");
    }
    assert_eq!(bytes.to_byte_strings().unwrap(), [[0xff]]);
}
