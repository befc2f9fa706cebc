//! From a dtype that is known at run time to a type that is known at compile time.

use innkeeper_tensor::DType;

use crate::OpError;

/// What a kernel answers to a dtype that [`Op::output`](crate::Op::output) should have refused.
pub(super) fn refused(dtype: DType) -> OpError {
    OpError::Unsupported(format!("the CPU backend has no kernel for {dtype} here"))
}

/// `$body` with `$T` standing for the element of a numeric dtype.
macro_rules! numeric {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            innkeeper_tensor::DType::Fp32 => {
                type $T = f32;
                $body
            }
            innkeeper_tensor::DType::Fp64 => {
                type $T = f64;
                $body
            }
            innkeeper_tensor::DType::Int64 => {
                type $T = i64;
                $body
            }
            innkeeper_tensor::DType::Int32 => {
                type $T = i32;
                $body
            }
            innkeeper_tensor::DType::Int16 => {
                type $T = i16;
                $body
            }
            innkeeper_tensor::DType::Int8 => {
                type $T = i8;
                $body
            }
            innkeeper_tensor::DType::Uint64 => {
                type $T = u64;
                $body
            }
            innkeeper_tensor::DType::Uint32 => {
                type $T = u32;
                $body
            }
            innkeeper_tensor::DType::Uint16 => {
                type $T = u16;
                $body
            }
            innkeeper_tensor::DType::Uint8 => {
                type $T = u8;
                $body
            }
            innkeeper_tensor::DType::Fp16 => {
                type $T = innkeeper_tensor::f16;
                $body
            }
            innkeeper_tensor::DType::Bf16 => {
                type $T = innkeeper_tensor::bf16;
                $body
            }
            other => Err($crate::cpu::dispatch::refused(other)),
        }
    };
}

/// `$body` with `$T` standing for the element of a float's dtype.
macro_rules! floating {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            innkeeper_tensor::DType::Fp32 => {
                type $T = f32;
                $body
            }
            innkeeper_tensor::DType::Fp64 => {
                type $T = f64;
                $body
            }
            innkeeper_tensor::DType::Fp16 => {
                type $T = innkeeper_tensor::f16;
                $body
            }
            innkeeper_tensor::DType::Bf16 => {
                type $T = innkeeper_tensor::bf16;
                $body
            }
            other => Err($crate::cpu::dispatch::refused(other)),
        }
    };
}

/// `$body` with `$T` standing for f32 or f64.
macro_rules! float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            innkeeper_tensor::DType::Fp32 => {
                type $T = f32;
                $body
            }
            innkeeper_tensor::DType::Fp64 => {
                type $T = f64;
                $body
            }
            other => Err($crate::cpu::dispatch::refused(other)),
        }
    };
}

/// `$body` with `$T` standing for an unsigned integer as large as the dtype's elements, for what only moves them.
macro_rules! word {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype.size() {
            Some(1) => {
                type $T = u8;
                $body
            }
            Some(2) => {
                type $T = u16;
                $body
            }
            Some(4) => {
                type $T = u32;
                $body
            }
            Some(8) => {
                type $T = u64;
                $body
            }
            _ => Err($crate::cpu::dispatch::refused($dtype)),
        }
    };
}

pub(super) use {float, floating, numeric, word};
