// The tensor cores' product of 16x16 by 16x8 for 16-bit floats with sums in FP32: there from sm_80 on.

#ifndef INNKEEPER_EMULATE
DEVICE void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
#ifdef IS_FP16
#define MMA mma_f16
#else
#define MMA mma_bf16
#endif

// The two 16-bit floats that begin at `at`, which is even.
DEVICE u32 pair(const u16* at) { return *reinterpret_cast<const u32*>(at); }
// Two numbers rounded, the first in the low half.
DEVICE u32 packed(float low, float high) {
    return u32(narrow<T>(low).bits) | u32(narrow<T>(high).bits) << 16;
}
