// What a kernel source needs of CUDA, on the processor: one thread of the operating system runs a grid's blocks one
// after the other, and the threads of a block as fibers that switch at barriers. For tests only, and not fast.
#pragma once
#define INNKEEPER_EMULATE
// The header of C++ by this name has functions for float, too, outside of std.
#include <math.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct Dim {
    unsigned x, y, z;
};
extern "C" {
extern Dim emulated_thread, emulated_block, emulated_block_size, emulated_grid_size;
extern unsigned char* emulated_shared;
// Waits until every thread of the block, or of the warp, that has not ended waits too.
void emulated_block_barrier();
void emulated_warp_barrier();
// A place for each lane of this thread's warp to lay 64 bytes.
unsigned char* emulated_lanes();
unsigned emulated_lane();
void emulated_register(const char* name, void (*kernel)(const void*));
}
#define threadIdx emulated_thread
#define blockIdx emulated_block
#define blockDim emulated_block_size
#define gridDim emulated_grid_size

// Units lie in a namespace without a name.
#define DEVICE inline
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define DYNAMIC_SHARED(Type, name) Type* name = reinterpret_cast<Type*>(emulated_shared)
#define KERNEL(name, Params)                                                                        \
    static void name(const Params& p);                                                              \
    static void emulated_##name(const void* bytes) { name(*reinterpret_cast<const Params*>(bytes)); } \
    static int registered_##name = (emulated_register(UNIT "/" #name, emulated_##name), 0);         \
    static void name(const Params& p)
#define KERNEL_OF(threads, name, Params) KERNEL(name, Params)

static inline void __syncthreads() { emulated_block_barrier(); }
static inline void __syncwarp() { emulated_warp_barrier(); }
static inline void __threadfence() {}

template <class W> static inline W emulated_exchange(W x, unsigned from) {
    static_assert(sizeof(W) <= 64, "an exchange carries 64 bytes");
    std::memcpy(emulated_lanes() + 64 * emulated_lane(), &x, sizeof(W));
    emulated_warp_barrier();
    W got;
    std::memcpy(&got, emulated_lanes() + 64 * (from % 32), sizeof(W));
    emulated_warp_barrier();
    return got;
}
template <class W> static inline W __shfl_xor_sync(unsigned, W x, int distance) {
    return emulated_exchange(x, emulated_lane() ^ unsigned(distance));
}
template <class W> static inline W __shfl_sync(unsigned, W x, int lane) {
    return emulated_exchange(x, unsigned(lane));
}
template <class W> static inline W __shfl_up_sync(unsigned, W x, unsigned distance) {
    unsigned lane = emulated_lane();
    return emulated_exchange(x, lane >= distance ? lane - distance : lane);
}
template <class W> static inline W __shfl_down_sync(unsigned, W x, unsigned distance) {
    unsigned lane = emulated_lane();
    return emulated_exchange(x, lane + distance < 32 ? lane + distance : lane);
}
static inline unsigned __ballot_sync(unsigned, bool x) {
    unsigned char bit = x;
    unsigned all = 0;
    std::memcpy(emulated_lanes() + 64 * emulated_lane(), &bit, 1);
    emulated_warp_barrier();
    for (unsigned i = 0; i < 32; i++) all |= unsigned(emulated_lanes()[64 * i] & 1) << i;
    emulated_warp_barrier();
    return all;
}

template <class W> static inline W atomicAdd(W* at, W x) {
    W old = *at;
    *at = old + x;
    return old;
}
template <class W> static inline W atomicMax(W* at, W x) {
    W old = *at;
    if (x > old) *at = x;
    return old;
}
template <class W> static inline W atomicMin(W* at, W x) {
    W old = *at;
    if (x < old) *at = x;
    return old;
}
template <class W> static inline W atomicOr(W* at, W x) {
    W old = *at;
    *at = old | x;
    return old;
}
template <class W> static inline W atomicCAS(W* at, W wanted, W x) {
    W old = *at;
    if (old == wanted) *at = x;
    return old;
}

static inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
static inline unsigned long long __double_as_longlong(double x) {
    unsigned long long bits;
    std::memcpy(&bits, &x, 8);
    return bits;
}
static inline double __longlong_as_double(long long bits) {
    double x;
    std::memcpy(&x, &bits, 8);
    return x;
}
static inline float __int_as_float(int bits) { return __uint_as_float(unsigned(bits)); }
static inline int __float_as_int(float x) { return int(__float_as_uint(x)); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return unsigned((static_cast<unsigned long long>(a) * b) >> 32);
}
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
#define __expf expf
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }

static inline float widen_f16(unsigned short bits) {
    unsigned sign = unsigned(bits & 0x8000) << 16, exponent = (bits >> 10) & 31, part = bits & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | part << 13);
    if (exponent == 0) {
        float tiny = float(part) * 0x1p-24f;
        return sign ? -tiny : tiny;
    }
    return __uint_as_float(sign | (exponent + 112) << 23 | part << 13);
}
static inline unsigned short narrow_f16(float x) {
    unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000;
    float size = std::fabs(x);
    if (x != x) return static_cast<unsigned short>(sign | 0x7fff);
    if (size >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00);
    if (size < 0x1p-14f) {
        // Multiples of 2^-24, to nearest, ties to even, as the processor rounds.
        return static_cast<unsigned short>(sign | unsigned(std::nearbyint(size * 0x1p24f)));
    }
    unsigned whole = (bits & 0x7fffffff) - (112u << 23);
    whole += 0xfff + (whole >> 13 & 1);
    return static_cast<unsigned short>(sign | whole >> 13);
}
static inline unsigned short narrow_bf16(float x) {
    unsigned bits = __float_as_uint(x);
    if (x != x) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Fragments of mma.m16n8k16 as the PTX manual lays them out: with g = lane / 4 and t = lane % 4, register r of A holds
// row g + 8 (r & 1) and columns 2t, 2t+1 of half r / 2; of B column g and rows 2t, 2t+1 of half r; of C and D row
// g + 8 (r / 2) and column 2t + (r & 1).
template <class ToFloat>
static inline void emulated_mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ToFloat of) {
    struct Lane {
        unsigned a[4], b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    std::memcpy(emulated_lanes() + 64 * emulated_lane(), &mine, sizeof mine);
    emulated_warp_barrier();
    unsigned lane = emulated_lane(), g = lane / 4, t = lane % 4;
    auto of_lane = [](unsigned lane) {
        Lane got;
        std::memcpy(&got, emulated_lanes() + 64 * lane, sizeof got);
        return got;
    };
    auto half = [&](unsigned pair, unsigned which) {
        return of(static_cast<unsigned short>(which ? pair >> 16 : pair & 0xffff));
    };
    for (int r = 0; r < 4; r++) {
        unsigned row = g + 8 * (r / 2), column = 2 * t + (r & 1);
        float sum = d[r];
        for (unsigned k = 0; k < 16; k++) {
            Lane from = of_lane(row % 8 * 4 + k % 8 / 2);
            float x = half(from.a[row / 8 + k / 8 * 2], k & 1);
            from = of_lane(column * 4 + k % 8 / 2);
            float y = half(from.b[k / 8], k & 1);
            sum += x * y;
        }
        d[r] = sum;
    }
    emulated_warp_barrier();
}
static inline float emulated_wide_bf16(unsigned short bits) { return __uint_as_float(unsigned(bits) << 16); }
static inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulated_mma(d, a, b, widen_f16);
}
static inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulated_mma(d, a, b, emulated_wide_bf16);
}

using std::abs;
