//! Products by cuBLASLt.
//!
//! The library's matrices are column-major. A row-major matrix is its transpose there, so that `C = A B` is asked for as
//! `C' = B' A'`: its first operand is our b, its rows are our columns, and its bias, one number for each row, is ours.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::{result, sys};
use cudarc::driver::sys::CUstream;
use innkeeper_tensor::DType;

use super::context::Context;
use crate::Activation;
use crate::cuda::CudaError;
use crate::cuda::machine::{BoundProduct, WORKSPACE_BYTES};
use crate::cuda::plan::product::Product;

/// Products whose algorithms are remembered; beyond, all are forgotten.
const CHOSEN_MAX: usize = 4096;

/// The library.
pub(super) struct Library {
    handle: sys::cublasLtHandle_t,
    /// The algorithm for each product, which takes the library long to choose.
    chosen: Mutex<HashMap<String, sys::cublasLtMatmulAlgo_t>>,
    _context: Arc<Context>,
}

// SAFETY: The library's functions may be called with one handle by several threads.
unsafe impl Send for Library {}
// SAFETY: As above.
unsafe impl Sync for Library {}

impl Library {
    /// The library where it is there; else our own kernels compute products.
    pub(super) fn find(context: &Arc<Context>) -> Result<Option<Library>, CudaError> {
        // SAFETY: Loading a library runs its initialisers; this one is NVIDIA's, from where the system finds libraries.
        if !unsafe { sys::is_culib_present() } {
            return Ok(None);
        }
        context.enter()?;
        let handle = result::create_handle().map_err(|error| answered("cublasLtCreate", error))?;
        Ok(Some(Library { handle, chosen: Mutex::default(), _context: context.clone() }))
    }

    /// Gives the product to the stream.
    pub(super) fn product(
        &self,
        stream: CUstream,
        bound: &BoundProduct<'_>,
    ) -> Result<(), CudaError> {
        let described = Described::new(bound)?;
        let algorithm = self.algorithm(bound, &described)?;
        let beta = if bound.residual == 0 { 0.0 } else { 1.0 };
        // Without a residual the library does not read c.
        let c = if bound.residual == 0 { bound.c } else { bound.residual };
        let double = bound.product.dtype == DType::Fp64;
        let (one, scale) = ([1f64, beta], [1f32, beta as f32]);
        let (alpha, beta) = match double {
            true => (ptr::from_ref(&one[0]).cast(), ptr::from_ref(&one[1]).cast()),
            false => (ptr::from_ref(&scale[0]).cast(), ptr::from_ref(&scale[1]).cast()),
        };
        // SAFETY: The descriptors live; the addresses are of memory as large as they say, which whoever calls holds until
        // this work is given out; alpha and beta are of the type that the descriptor says, and read before it returns.
        unsafe {
            result::matmul(
                self.handle,
                described.product.0,
                alpha,
                beta,
                bound.b as *const c_void,
                described.b.0,
                bound.a as *const c_void,
                described.a.0,
                c as *const c_void,
                described.c.0,
                bound.c as *mut c_void,
                described.c.0,
                &algorithm,
                bound.workspace as *mut c_void,
                WORKSPACE_BYTES as usize,
                stream.cast(),
            )
        }
        .map_err(|error| answered("cublasLtMatmul", error))
    }

    fn algorithm(
        &self,
        bound: &BoundProduct<'_>,
        described: &Described,
    ) -> Result<sys::cublasLtMatmulAlgo_t, CudaError> {
        let key = key(bound);
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(algorithm) = chosen.get(&key) {
            return Ok(*algorithm);
        }
        let preference = Preference::new(1 << alignment(bound))?;
        // SAFETY: All descriptors live.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle,
                described.product.0,
                described.b.0,
                described.a.0,
                described.c.0,
                described.c.0,
                preference.0,
            )
        }
        .map_err(|error| answered("cublasLtMatmulAlgoGetHeuristic", error))?;
        if chosen.len() >= CHOSEN_MAX {
            chosen.clear();
        }
        chosen.insert(key, found.algo);
        Ok(found.algo)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: It was made by `find`, and is dropped once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// The power of two, up to 256, that all addresses are multiples of.
fn alignment(bound: &BoundProduct<'_>) -> u32 {
    (bound.a | bound.b | bound.c | bound.bias | bound.residual).trailing_zeros().min(8)
}

/// What the choice of an algorithm depends on: everything but the addresses, of which only the alignment counts. They are
/// multiples of 256 but for operands inside a larger piece.
fn key(bound: &BoundProduct<'_>) -> String {
    let Product { dtype, activation, m, n, k, batch, a_batch, b_batch, a_turned, b_turned, .. } =
        bound.product;
    let aligned =
        (bound.a | bound.b | bound.c | bound.bias | bound.residual).trailing_zeros().min(8);
    let (bias, residual) = (bound.bias != 0, bound.residual != 0);
    format!(
        "{dtype} {activation:?} {m} {n} {k} {batch} {a_batch} {b_batch} {a_turned} {b_turned} {bias} {residual} {aligned}"
    )
}

/// The library's type of an element, of its sums, and of its factors.
fn types(
    dtype: DType,
) -> Result<(sys::cudaDataType, sys::cublasComputeType_t, sys::cudaDataType), CudaError> {
    use sys::cublasComputeType_t as Compute;
    use sys::cudaDataType_t as Data;
    Ok(match dtype {
        DType::Fp16 => (Data::CUDA_R_16F, Compute::CUBLAS_COMPUTE_32F, Data::CUDA_R_32F),
        DType::Bf16 => (Data::CUDA_R_16BF, Compute::CUBLAS_COMPUTE_32F, Data::CUDA_R_32F),
        DType::Fp32 => (Data::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F, Data::CUDA_R_32F),
        DType::Fp64 => (Data::CUDA_R_64F, Compute::CUBLAS_COMPUTE_64F, Data::CUDA_R_64F),
        other => return Err(CudaError::Device(format!("no product of {other} in the library"))),
    })
}

/// What the library does as it writes.
fn epilogue(activation: Activation, bias: bool) -> sys::cublasLtEpilogue_t {
    use sys::cublasLtEpilogue_t as Epilogue;
    match (activation, bias) {
        (Activation::Relu, true) => Epilogue::CUBLASLT_EPILOGUE_RELU_BIAS,
        (Activation::Relu, false) => Epilogue::CUBLASLT_EPILOGUE_RELU,
        (Activation::GeluTanh, true) => Epilogue::CUBLASLT_EPILOGUE_GELU_BIAS,
        (Activation::GeluTanh, false) => Epilogue::CUBLASLT_EPILOGUE_GELU,
        (_, true) => Epilogue::CUBLASLT_EPILOGUE_BIAS,
        (_, false) => Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
    }
}

/// A column-major matrix: rows, columns, and elements from one column to the next.
type Columns = (u64, u64, i64);

/// Our operands as the library sees them: the layout of b, a and c, and whether b and a are to be transposed.
fn layouts(product: &Product) -> (Columns, Columns, Columns, bool, bool) {
    let Product { m, n, k, .. } = *product;
    let of = |rows: u64, columns: u64| (rows, columns, rows as i64);
    let b = if product.b_turned { of(k, n) } else { of(n, k) };
    let a = if product.a_turned { of(m, k) } else { of(k, m) };
    (b, a, of(n, m), product.b_turned, product.a_turned)
}

/// A product's descriptors.
struct Described {
    product: Descriptor,
    a: Layout,
    b: Layout,
    c: Layout,
}

impl Described {
    fn new(bound: &BoundProduct<'_>) -> Result<Described, CudaError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let product = bound.product;
        let (data, compute, scale) = types(product.dtype)?;
        let descriptor = Descriptor(
            result::create_matmul_desc(compute, scale)
                .map_err(|error| answered("cublasLtMatmulDescCreate", error))?,
        );
        let (b, a, c, b_turned, a_turned) = layouts(product);
        // 0 is CUBLAS_OP_N, 1 is CUBLAS_OP_T.
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(b_turned))?;
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(a_turned))?;
        let epilogue = epilogue(product.activation, bound.bias != 0) as u32;
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        if bound.bias != 0 {
            descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bound.bias)?;
        }
        let batch = product.batch;
        Ok(Described {
            product: descriptor,
            b: Layout::new(data, b, batch, product.b_batch)?,
            a: Layout::new(data, a, batch, product.a_batch)?,
            c: Layout::new(data, c, batch, product.m * product.n)?,
        })
    }
}

struct Descriptor(sys::cublasLtMatmulDesc_t);

impl Descriptor {
    fn set<V: bytemuck::NoUninit>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &V,
    ) -> Result<(), CudaError> {
        // SAFETY: The descriptor lives, and the value is of the attribute's type and read before it returns.
        unsafe {
            let value = ptr::from_ref(value).cast();
            result::set_matmul_desc_attribute(self.0, attribute, value, size_of::<V>())
        }
        .map_err(|error| answered("cublasLtMatmulDescSetAttribute", error))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: It was made by `Described::new`, and is dropped once.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(
        data: sys::cudaDataType,
        (rows, columns, apart): Columns,
        batch: u64,
        stride: u64,
    ) -> Result<Layout, CudaError> {
        use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
        let layout = Layout(
            result::create_matrix_layout(data, rows, columns, apart)
                .map_err(|error| answered("cublasLtMatrixLayoutCreate", error))?,
        );
        let too_many = |_| CudaError::Device(format!("{batch} products are too many for one call"));
        let count = i32::try_from(batch).map_err(too_many)?;
        layout.set(Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count)?;
        let attribute = Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
        layout.set(attribute, &(stride as i64))?;
        Ok(layout)
    }

    fn set<V: bytemuck::NoUninit>(
        &self,
        attribute: sys::cublasLtMatrixLayoutAttribute_t,
        value: &V,
    ) -> Result<(), CudaError> {
        // SAFETY: As for a descriptor.
        unsafe {
            let value = ptr::from_ref(value).cast();
            result::set_matrix_layout_attribute(self.0, attribute, value, size_of::<V>())
        }
        .map_err(|error| answered("cublasLtMatrixLayoutSetAttribute", error))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: It was made by `new`, and is dropped once.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may use.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(alignment: u32) -> Result<Preference, CudaError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(
            result::create_matmul_pref()
                .map_err(|error| answered("cublasLtMatmulPreferenceCreate", error))?,
        );
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE_BYTES)?;
        for attribute in [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(attribute, &alignment)?;
        }
        Ok(preference)
    }

    fn set<V: bytemuck::NoUninit>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &V,
    ) -> Result<(), CudaError> {
        // SAFETY: The preference lives, and the value is of the attribute's type and read before it returns.
        unsafe {
            let value = ptr::from_ref(value).cast();
            result::set_matmul_pref_attribute(self.0, attribute, value, size_of::<V>())
        }
        .map_err(|error| answered("cublasLtMatmulPreferenceSetAttribute", error))
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: It was made by `new`, and is dropped once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn answered(what: &str, error: result::CublasError) -> CudaError {
    CudaError::Device(format!("{what}: {error}"))
}
