// Conversions from S to T, as `Op::Cast` says, and results that come from nothing.

typedef ELEMENT T;
typedef FROM S;
typedef As<S>::Wide From;
typedef As<T>::Wide To;

struct Cast {
    T* out;
    const S* a;
    u64 count;
};
// Element i is start + i * step.
struct Range {
    T* out;
    double start, step;
    u64 count;
};

#if defined(IS_BOOL)
template <class A> DEVICE T converted(A a) { return T(a != A(0)); }
#elif defined(IS_INTEGER)
// Floats saturate; NaN is 0. Both bounds are compared as floats: the upper one may round up to what does not fit.
template <class R> DEVICE T saturated(R a) {
    typedef Extreme<T> Bounds;
    if (is_nan(a)) return T(0);
    if (a <= R(Bounds::lowest())) return Bounds::lowest();
    if (a >= R(Bounds::highest())) return Bounds::highest();
    return T(a);
}
// Integers keep their low bits.
template <class A> DEVICE T converted(A a) { return T(a); }
DEVICE T converted(float a) { return saturated(a); }
DEVICE T converted(double a) { return saturated(a); }
#elif defined(IS_HALF)
DEVICE T converted(float a) { return narrow<T>(a); }
DEVICE T converted(double a) { return round_once<T>(a); }
// A 64-bit integer becomes an FP64 rounded to odd first, of which the next rounding can then tell on which side it was.
DEVICE double to_odd(u64 size) {
    double near = double(size);
    if (near >= 18446744073709551616.0) return __longlong_as_double(i64(__double_as_longlong(near) - 1) | 1);
    u64 back = u64(near);
    if (back == size) return near;
    return __longlong_as_double((i64(__double_as_longlong(near)) - i64(back > size)) | 1);
}
template <class A> DEVICE T converted(A a) {
    bool negative = Is<A>::sign && a < A(0);
    double size = to_odd(negative ? u64(0) - u64(a) : u64(a));
    return round_once<T>(negative ? -size : size);
}
#else
template <class A> DEVICE T converted(A a) { return T(a); }
#endif

KERNEL(cast, Cast) {
    u64 index = thread_number();
    if (index < p.count) p.out[index] = converted(wide(p.a[index]));
}

#ifdef RANGE
KERNEL(range, Range) {
    u64 index = thread_number();
    // Two roundings, as on the processor: no fused multiply-add.
    if (index < p.count) p.out[index] = converted(p.start + __dmul_rn(double(index), p.step));
}
#endif
