// What every kernel source begins with. It includes nothing, so that a host needs no headers of the CUDA toolkit.
//
// A kernel takes one struct by value, whose members Rust writes in the order and with the alignment of C
// (`plan/params.rs`). Sources are compiled once for each set of element types, which come as -D options.

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef short i16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

// 16-bit floats as they are stored. Nothing is computed in them: they are widened to FP32 and rounded once.
struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};

#ifndef INNKEEPER_EMULATE
#define DEVICE __device__ __forceinline__
#define KERNEL(name, Params) extern "C" __global__ void name(const __grid_constant__ Params p)
// A kernel with a bound on its threads per block, so that the compiler may spend the registers.
#define KERNEL_OF(threads, name, Params) \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p)
// The shared memory whose size the launch says.
#define DYNAMIC_SHARED(Type, name)                                \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    Type* name = reinterpret_cast<Type*>(dynamic_shared)

DEVICE float widen_f16(u16 bits) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}
DEVICE u16 narrow_f16(float wide) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(wide));
    return bits;
}
DEVICE u16 narrow_bf16(float wide) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(wide));
    return bits;
}
#endif

#define WARP 32
#define WHOLE_WARP 0xffffffffu
// Dimensions of a walk; Rust refuses longer shapes.
#define RANK 16

// --- Elements: what is computed with, and the way there and back.

template <class S> struct As {
    typedef S Wide;
};
template <> struct As<f16> {
    typedef float Wide;
};
template <> struct As<bf16> {
    typedef float Wide;
};

template <class S> DEVICE S wide(S x) { return x; }
DEVICE float wide(f16 x) { return widen_f16(x.bits); }
DEVICE float wide(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

template <class S> struct Narrow {
    template <class W> static DEVICE S from(W x) { return S(x); }
};
template <> struct Narrow<f16> {
    static DEVICE f16 from(float x) {
        f16 out;
        out.bits = narrow_f16(x);
        return out;
    }
};
template <> struct Narrow<bf16> {
    static DEVICE bf16 from(float x) {
        bf16 out;
        out.bits = narrow_bf16(x);
        return out;
    }
};
template <class S, class W> DEVICE S narrow(W x) { return Narrow<S>::from(x); }

// An FP32 that, rounded to nearest, is what `x` rounded once to 16 bits would be: rounded to odd on the way.
DEVICE float to_odd(double x) {
    float near = float(x);
    double back = double(near);
    if (back == x || !(x == x)) return near;
    u32 bits = __float_as_uint(near);
    if (fabs(back) > fabs(x)) bits -= 1;
    return __uint_as_float(bits | 1);
}
// An accumulator in FP64, rounded once.
template <class S> DEVICE S round_once(double x) { return S(x); }
template <> DEVICE f16 round_once<f16>(double x) { return narrow<f16>(to_odd(x)); }
template <> DEVICE bf16 round_once<bf16>(double x) { return narrow<bf16>(to_odd(x)); }

// --- Facts about types, which NVRTC has no headers for.

template <class S> struct Is {
    static const bool real = false, sign = false;
};
template <> struct Is<float> {
    static const bool real = true, sign = true;
};
template <> struct Is<double> {
    static const bool real = true, sign = true;
};
template <> struct Is<i8> {
    static const bool real = false, sign = true;
};
template <> struct Is<i16> {
    static const bool real = false, sign = true;
};
template <> struct Is<i32> {
    static const bool real = false, sign = true;
};
template <> struct Is<i64> {
    static const bool real = false, sign = true;
};

template <class S> struct Unsigned {
    typedef S Type;
};
template <> struct Unsigned<i8> {
    typedef u8 Type;
};
template <> struct Unsigned<i16> {
    typedef u16 Type;
};
template <> struct Unsigned<i32> {
    typedef u32 Type;
};
template <> struct Unsigned<i64> {
    typedef u64 Type;
};

DEVICE float infinity_of(float) { return __uint_as_float(0x7f800000u); }
DEVICE double infinity_of(double) { return double(__uint_as_float(0x7f800000u)); }
DEVICE float nan_of(float) { return __uint_as_float(0x7fc00000u); }
DEVICE double nan_of(double) { return double(__uint_as_float(0x7fc00000u)); }
template <class S> DEVICE S lowest_integer() {
    return Is<S>::sign ? S(typename Unsigned<S>::Type(1) << (sizeof(S) * 8 - 1)) : S(0);
}
template <class S> struct Extreme {
    static DEVICE S lowest() { return lowest_integer<S>(); }
    static DEVICE S highest() { return S(~lowest_integer<S>()); }
};
template <> struct Extreme<float> {
    static DEVICE float lowest() { return -infinity_of(0.0f); }
    static DEVICE float highest() { return infinity_of(0.0f); }
};
template <> struct Extreme<double> {
    static DEVICE double lowest() { return -infinity_of(0.0); }
    static DEVICE double highest() { return infinity_of(0.0); }
};

template <class W> DEVICE bool is_nan(W x) { return !(x == x); }
// The larger and the smaller, NaN if either is.
template <class W> DEVICE W larger(W a, W b) { return a > b || is_nan(a) ? a : b; }
template <class W> DEVICE W smaller(W a, W b) { return a < b || is_nan(a) ? a : b; }

// --- Several elements at once: 16 bytes make one transaction of a thread.

template <class S, int V> struct alignas(sizeof(S) * V) Pack {
    S at[V];
};

// V elements from `base + offset`: side by side when `stride` is 1, one repeated when it is 0. V of 1 takes any offset.
template <int V, class S> DEVICE Pack<S, V> load(const S* base, i64 offset, i64 stride) {
    if (V == 1 || stride == 1) return *reinterpret_cast<const Pack<S, V>*>(base + offset);
    Pack<S, V> all;
    S one = base[offset];
#pragma unroll
    for (int i = 0; i < V; i++) all.at[i] = one;
    return all;
}
template <int V, class S> DEVICE void store(S* base, i64 offset, const Pack<S, V>& all) {
    *reinterpret_cast<Pack<S, V>*>(base + offset) = all;
}

// --- Walks: a dense row-major shape, and for each of N operands the stride of each dimension.

template <int N> struct Walk {
    u64 count;
    u32 rank;
    u32 dims[RANK];
    i64 strides[N][RANK];
};

// The number of the thread in the grid.
DEVICE u64 thread_number() { return u64(blockIdx.x) * blockDim.x + threadIdx.x; }

// Where element `index` of the walk lies in each operand.
template <int N> DEVICE void locate(const Walk<N>& walk, u64 index, i64 (&offsets)[N]) {
#pragma unroll
    for (int n = 0; n < N; n++) offsets[n] = 0;
    if (walk.rank == 1) {
#pragma unroll
        for (int n = 0; n < N; n++) offsets[n] = i64(index) * walk.strides[n][0];
        return;
    }
    // Division of 64 bits costs many instructions; nearly every tensor has fewer than 2^32 elements.
    if (walk.count >> 32) {
        for (int d = int(walk.rank) - 1; d >= 0; d--) {
            u64 rest = index / walk.dims[d];
            i64 at = i64(index - rest * walk.dims[d]);
            index = rest;
#pragma unroll
            for (int n = 0; n < N; n++) offsets[n] += at * walk.strides[n][d];
        }
    } else {
        u32 left = u32(index);
        for (int d = int(walk.rank) - 1; d >= 0; d--) {
            u32 rest = left / walk.dims[d];
            i64 at = i64(left - rest * walk.dims[d]);
            left = rest;
#pragma unroll
            for (int n = 0; n < N; n++) offsets[n] += at * walk.strides[n][d];
        }
    }
}

// --- Sums over the threads of a warp and of a block.

template <class W, class F> DEVICE W across_warp(W x, F join) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        x = join(x, __shfl_xor_sync(WHOLE_WARP, x, distance));
    return x;
}

// Every thread of the block gets the result. `room` has one place for each warp; the block is one dimension of whole
// warps. Ends with a barrier, so that the room can be used again.
template <class W, class F> DEVICE W across_block(W x, W nothing, W* room, F join) {
    x = across_warp(x, join);
    if (blockDim.x <= WARP) return x;
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = lane < blockDim.x / WARP ? room[lane] : nothing;
    x = across_warp(x, join);
    __syncthreads();
    return x;
}

struct Plus {
    template <class W> DEVICE W operator()(W a, W b) const { return a + b; }
};
struct Larger {
    template <class W> DEVICE W operator()(W a, W b) const { return larger(a, b); }
};
