// Operations on elements at the same place: one thread takes VECTOR elements that lie side by side in the result.
// T is the dtype of the operands; 16-bit floats are computed in FP32 and rounded once. The option DO chooses the one
// operation that is compiled, and UNARY, BINARY or COMPARE says of which kind it is.

typedef ELEMENT T;
typedef As<T>::Wide W;
#define VECTOR (16 / int(sizeof(T)))

// `first` and `second` are the bits of a curve's parameters.
struct Map1 {
    void* out;
    const T* a;
    Walk<1> walk;
    u64 first, second;
};
// Without a `b`, every element meets `scalar`, the bits of a T.
struct Map2 {
    void* out;
    const T* a;
    const T* b;
    u64 scalar;
    Walk<2> walk;
};

template <int V, class O, class F> DEVICE void map1(const Map1& p, F f) {
    u64 index = thread_number() * V;
    if (index >= p.walk.count) return;
    i64 at[1];
    locate(p.walk, index, at);
    Pack<T, V> a = load<V>(p.a, at[0], p.walk.strides[0][p.walk.rank - 1]);
    Pack<O, V> out;
#pragma unroll
    for (int i = 0; i < V; i++) out.at[i] = narrow<O>(f(wide(a.at[i])));
    store<V>(static_cast<O*>(p.out), i64(index), out);
}

template <int V, class O, class F> DEVICE void map2(const Map2& p, F f) {
    u64 index = thread_number() * V;
    if (index >= p.walk.count) return;
    i64 at[2];
    locate(p.walk, index, at);
    u32 last = p.walk.rank - 1;
    Pack<T, V> a = load<V>(p.a, at[0], p.walk.strides[0][last]), b;
    if (p.b) {
        b = load<V>(p.b, at[1], p.walk.strides[1][last]);
    } else {
        T scalar = *reinterpret_cast<const T*>(&p.scalar);
#pragma unroll
        for (int i = 0; i < V; i++) b.at[i] = scalar;
    }
    Pack<O, V> out;
#pragma unroll
    for (int i = 0; i < V; i++) out.at[i] = narrow<O>(f(wide(a.at[i]), wide(b.at[i])));
    store<V>(static_cast<O*>(p.out), i64(index), out);
}

#define ONE(name, expression)                                         \
    struct name {                                                     \
        DEVICE W operator()(W a) const { return W(expression); }      \
    };
#define TWO(name, expression)                                         \
    struct name {                                                     \
        DEVICE W operator()(W a, W b) const { return W(expression); } \
    };
#define TEST(name, expression)                                        \
    struct name {                                                     \
        DEVICE u8 operator()(W a, W b) const { return u8(expression); } \
    };

// A function with two parameters.
#define ONE_OF_TWO(name, expression)                                  \
    struct name {                                                     \
        W first, second;                                              \
        DEVICE W operator()(W a) const { return W(expression); }      \
    };
#define ASK(name, expression)                                         \
    struct name {                                                     \
        DEVICE u8 operator()(W a) const { return u8(expression); }    \
    };
template <class P> DEVICE P parameter(const u64& bits) { return *reinterpret_cast<const P*>(&bits); }

// Integers wrap around; C++ says so of the unsigned ones only.
typedef Unsigned<W>::Type U;

#ifndef IS_BOOL
TEST(do_less, a < b)
TEST(do_greater, a > b)
TEST(do_less_or_equal, a <= b)
TEST(do_greater_or_equal, a >= b)
// The upper bound wins over the lower one; NaN stays.
ONE_OF_TWO(do_clip, smaller(larger(a, first), second))
TWO(do_maximum, larger(a, b))
TWO(do_minimum, smaller(a, b))
#endif
TEST(do_equal, a == b)
TEST(do_not_equal, a != b)

#ifdef IS_REAL
DEVICE float power(float a, float b) { return powf(a, b); }
DEVICE double power(double a, double b) { return pow(a, b); }
// e to a number that is not positive cannot overflow.
template <class R> DEVICE R sigmoid(R a) {
    R e = exp(-fabs(a));
    return (a < R(0) ? e : R(1)) / (R(1) + e);
}
template <class R> DEVICE R softplus(R a) { return (a > R(0) ? a : R(0)) + log1p(exp(-fabs(a))); }
// 1 + erf(x) would lose every digit of a small tail.
template <class R> DEVICE R gelu(R a) {
    R tail = erfc(-a * R(0.70710678118654752440));
    // Minus infinity times nothing is nothing here.
    return tail == R(0) ? R(0) : R(0.5) * a * tail;
}
template <class R> DEVICE R gelu_tanh(R a) {
    return R(0.5) * a * (R(1) + tanh(R(0.79788456080286535588) * (a + R(0.044715) * a * a * a)));
}
template <class R> DEVICE R sign_of(R a) { return is_nan(a) ? a : R(a > R(0)) - R(a < R(0)); }

TWO(do_prelu, a < W(0) ? a * b : a)
TWO(do_add, a + b)
TWO(do_sub, a - b)
TWO(do_mul, a * b)
TWO(do_div, a / b)
TWO(do_pow, power(a, b))
TWO(do_atan2, atan2(a, b))
TWO(do_fmod, fmod(a, b))
// The remainder has the divisor's sign, as Python's has.
template <class R> DEVICE R modulo(R a, R b) {
    R rest = fmod(a, b);
    return rest != R(0) && (rest < R(0)) != (b < R(0)) ? rest + b : rest;
}
TWO(do_mod, modulo(a, b))

ONE(do_neg, -a)
ONE(do_abs, fabs(a))
ONE(do_sign, sign_of(a))
ONE(do_exp, exp(a))
ONE(do_ln, log(a))
ONE(do_log, log(a))
ONE(do_log1p, log1p(a))
ONE(do_expm1, expm1(a))
ONE(do_sqrt, sqrt(a))
ONE(do_rsqrt, W(1) / sqrt(a))
ONE(do_reciprocal, W(1) / a)
ONE(do_floor, floor(a))
ONE(do_ceil, ceil(a))
ONE(do_round, rint(a))
ONE(do_trunc, trunc(a))
ONE(do_sin, sin(a))
ONE(do_cos, cos(a))
ONE(do_tan, tan(a))
ONE(do_asin, asin(a))
ONE(do_acos, acos(a))
ONE(do_atan, atan(a))
ONE(do_sinh, sinh(a))
ONE(do_cosh, cosh(a))
ONE(do_asinh, asinh(a))
ONE(do_acosh, acosh(a))
ONE(do_atanh, atanh(a))
ONE(do_tanh, tanh(a))
ONE(do_erf, erf(a))
ONE(do_sigmoid, sigmoid(a))
ONE(do_relu, a <= W(0) ? W(0) : a)
ONE(do_gelu, gelu(a))
ONE(do_gelu_tanh, gelu_tanh(a))
ONE(do_silu, a * sigmoid(a))
ONE(do_softplus, softplus(a))
ONE_OF_TWO(do_elu, a > W(0) ? a : first * expm1(a))
ONE_OF_TWO(do_celu, larger(W(0), a) + smaller(W(0), first * expm1(a / first)))
ONE_OF_TWO(do_selu, second * (a > W(0) ? a : first * expm1(a)))
ONE_OF_TWO(do_leaky_relu, a < W(0) ? first * a : a)
ONE_OF_TWO(do_thresholded_relu, a > first ? a : is_nan(a) ? a : W(0))
ONE_OF_TWO(do_hard_sigmoid, larger(W(0), smaller(W(1), first * a + second)))
ONE_OF_TWO(do_swish, a * sigmoid(first * a))
ONE_OF_TWO(do_shrink, a < -second ? a + first : a > second ? a - first : is_nan(a) ? a : W(0))
ASK(do_is_nan, is_nan(a))
ASK(do_is_inf, fabs(a) == infinity_of(a))
ASK(do_is_inf_positive, a == infinity_of(a))
ASK(do_is_inf_negative, a == -infinity_of(a))
ASK(do_never, false)
ONE(do_softsign, a / (W(1) + fabs(a)))
ONE(do_mish, a * tanh(softplus(a)))
ONE(do_hard_swish, a * larger(W(0), smaller(W(1), a / W(6) + W(0.5))))
#endif

#ifdef IS_INTEGER
DEVICE W quotient(W a, W b) {
    // The smallest divided by -1 wraps around to itself.
    if (b == W(0)) return W(0);
    if (Is<W>::sign && b == W(-1)) return W(U(0) - U(a));
    return W(a / b);
}
DEVICE W remainder_of(W a, W b) {
    if (b == W(0) || (Is<W>::sign && b == W(-1))) return W(0);
    return W(a % b);
}
DEVICE W modulo(W a, W b) {
    W rest = remainder_of(a, b);
    return rest != W(0) && Is<W>::sign && (rest < W(0)) != (b < W(0)) ? W(rest + b) : rest;
}
// Bits further than the width are gone.
DEVICE W shifted(W a, W by, bool left) {
    if (U(by) >= U(sizeof(W) * 8)) return W(0);
    return left ? W(U(a) << U(by)) : W(U(a) >> U(by));
}
DEVICE W power(W base, W exponent) {
    if (Is<W>::sign && exponent < W(0)) return base == W(1) ? W(1) : base == W(-1) ? (exponent % 2 ? W(-1) : W(1)) : W(0);
    U out = 1, square = U(base);
    for (U left = U(exponent); left != 0; left = U(left >> 1), square = U(square * square))
        if (left & 1) out = U(out * square);
    return W(out);
}

TWO(do_add, U(a) + U(b))
TWO(do_sub, U(a) - U(b))
// Two 16-bit factors would be multiplied as a signed int.
TWO(do_mul, U(u64(U(a)) * u64(U(b))))
TWO(do_div, quotient(a, b))
TWO(do_pow, power(a, b))
TWO(do_mod, modulo(a, b))
TWO(do_fmod, remainder_of(a, b))
TWO(do_bit_and, a & b)
TWO(do_bit_or, a | b)
TWO(do_bit_xor, a ^ b)
TWO(do_shift_left, shifted(a, b, true))
TWO(do_shift_right, shifted(a, b, false))
ONE(do_neg, U(0) - U(a))
ONE(do_abs, Is<W>::sign && a < W(0) ? U(0) - U(a) : U(a))
ONE(do_relu, a < W(0) ? W(0) : a)
TWO(do_prelu, Is<W>::sign && a < W(0) ? U(u64(U(a)) * u64(U(b))) : U(a))
ONE(do_sign, W(a > W(0)) - W(Is<W>::sign && a < W(0)))
ONE(do_bit_not, ~U(a))

#ifdef ANY_ZERO
// Sets the flag when one of the elements is 0.
struct Zeros {
    const T* a;
    u64 count;
    u32* flag;
};
KERNEL(any_zero, Zeros) {
    u64 index = thread_number();
    if (index < p.count && p.a[index] == T(0)) *p.flag = 1;
}
#endif
#endif

#ifdef IS_BOOL
TWO(do_and, a && b)
TWO(do_or, a || b)
TWO(do_xor, a != b)
ONE(do_not, !a)
#endif

#if defined(UNARY)
KERNEL(map_vector, Map1) { map1<VECTOR, T>(p, DO()); }
KERNEL(map, Map1) { map1<1, T>(p, DO()); }
#elif defined(CURVE)
KERNEL(map_vector, Map1) { map1<VECTOR, T>(p, DO{parameter<W>(p.first), parameter<W>(p.second)}); }
KERNEL(map, Map1) { map1<1, T>(p, DO{parameter<W>(p.first), parameter<W>(p.second)}); }
#elif defined(CLIP)
KERNEL(map_vector, Map1) { map1<VECTOR, T>(p, do_clip{wide(parameter<T>(p.first)), wide(parameter<T>(p.second))}); }
KERNEL(map, Map1) { map1<1, T>(p, do_clip{wide(parameter<T>(p.first)), wide(parameter<T>(p.second))}); }
#elif defined(QUESTION)
KERNEL(map_vector, Map1) { map1<VECTOR, u8>(p, DO()); }
KERNEL(map, Map1) { map1<1, u8>(p, DO()); }
#elif defined(BINARY)
KERNEL(map_vector, Map2) { map2<VECTOR, T>(p, DO()); }
KERNEL(map, Map2) { map2<1, T>(p, DO()); }
#elif defined(COMPARE)
KERNEL(map_vector, Map2) { map2<VECTOR, u8>(p, DO()); }
KERNEL(map, Map2) { map2<1, u8>(p, DO()); }
#endif
