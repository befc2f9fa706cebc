// Reductions of [outer, size, inner] over the middle. T is the operand's dtype; floats are accumulated in FP64 and
// rounded once, integers wrap around.
//
// When `inner` is 1 a block of threads shares a row; else a thread has a column and its neighbours read beside it. A long
// reduction over few results is split: `parts` blocks make accumulators, and the same kernels join these. The option
// REDUCE says what is worked out, and END what becomes of the accumulator.

typedef ELEMENT T;
typedef As<T>::Wide W;
#ifdef IS_REAL
typedef double Sum;
#else
typedef Unsigned<T>::Type Sum;
#endif

struct Reduce {
    void* out;
    const void* a;
    u64 outer, size, inner;
    // How many elements of a row one block takes, and how many blocks a row has.
    u64 part;
    u64 parts;
    // What a mean divides by.
    double divisor;
};

struct SumOf {
    typedef Sum State;
    static DEVICE Sum nothing() { return Sum(0); }
    static DEVICE Sum first(W a) { return Sum(a); }
    static DEVICE Sum join(Sum a, Sum b) { return Sum(a + b); }
};
struct ProductOf {
    typedef Sum State;
    static DEVICE Sum nothing() { return Sum(1); }
    static DEVICE Sum first(W a) { return Sum(a); }
    static DEVICE Sum join(Sum a, Sum b) { return Sum(a * b); }
};
struct AbsoluteSumOf : SumOf {
    static DEVICE Sum first(W a) { return a < W(0) ? Sum(0) - Sum(a) : Sum(a); }
};
struct SquareSumOf : SumOf {
    static DEVICE Sum first(W a) { return Sum(Sum(a) * Sum(a)); }
};
struct MaxOf {
    typedef W State;
    static DEVICE W nothing() { return Extreme<W>::lowest(); }
    static DEVICE W first(W a) { return a; }
    static DEVICE W join(W a, W b) { return larger(a, b); }
};
struct MinOf {
    typedef W State;
    static DEVICE W nothing() { return Extreme<W>::highest(); }
    static DEVICE W first(W a) { return a; }
    static DEVICE W join(W a, W b) { return smaller(a, b); }
};
#ifdef IS_REAL
// The sum of e to the elements, as a largest and a sum relative to it, so that nothing overflows.
struct Exponentials {
    double top, sum;
};
struct ExponentialSumOf {
    typedef Exponentials State;
    static DEVICE State nothing() { return State{Extreme<double>::lowest(), 0.0}; }
    static DEVICE State first(W a) { return State{double(a), 1.0}; }
    static DEVICE State join(State a, State b) {
        double top = larger(a.top, b.top);
        // Infinities minus themselves are no number.
        if (is_nan(top)) return State{top, 1.0};
        double sum = (a.top == top ? a.sum : a.sum * exp(a.top - top)) + (b.top == top ? b.sum : b.sum * exp(b.top - top));
        return State{top, sum};
    }
};
DEVICE double ended(Exponentials all, double) { return all.sum == 0.0 ? all.top : all.top + log(all.sum); }
#endif

// What an accumulator becomes.
struct Whole {
    template <class A> DEVICE A operator()(A sum, double) const { return sum; }
};
struct Divided {
    DEVICE double operator()(double sum, double divisor) const { return sum / divisor; }
};
struct Root {
    DEVICE double operator()(double sum, double) const { return sqrt(sum); }
};
struct Logarithm {
    DEVICE double operator()(double sum, double) const { return log(sum); }
};
#ifdef IS_REAL
struct Ended {
    DEVICE double operator()(Exponentials all, double) const { return ended(all, 0.0); }
};
template <class A> DEVICE T finished(A x) { return round_once<T>(double(x)); }
#else
template <class A> DEVICE T finished(A x) { return T(x); }
#endif

template <class F> struct Joining {
    template <class A> DEVICE A operator()(A a, A b) const { return F::join(a, b); }
};

// A shuffle carries 4 or 8 bytes: narrower ones go as an int, a pair in two.
DEVICE i8 shuffled(i8 x, int d) { return i8(__shfl_xor_sync(WHOLE_WARP, int(x), d)); }
DEVICE u8 shuffled(u8 x, int d) { return u8(__shfl_xor_sync(WHOLE_WARP, int(x), d)); }
DEVICE i16 shuffled(i16 x, int d) { return i16(__shfl_xor_sync(WHOLE_WARP, int(x), d)); }
DEVICE u16 shuffled(u16 x, int d) { return u16(__shfl_xor_sync(WHOLE_WARP, int(x), d)); }
template <class A> DEVICE A shuffled(A x, int d) { return __shfl_xor_sync(WHOLE_WARP, x, d); }
#ifdef IS_REAL
DEVICE Exponentials shuffled(Exponentials x, int d) {
    return Exponentials{shuffled(x.top, d), shuffled(x.sum, d)};
}
#endif

template <class F> DEVICE typename F::State joined(typename F::State x, typename F::State* room) {
    typedef typename F::State State;
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) x = F::join(x, shuffled(x, d));
    if (blockDim.x <= WARP) return x;
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = lane < blockDim.x / WARP ? room[lane] : F::nothing();
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) x = F::join(x, shuffled(x, d));
    __syncthreads();
    return x;
}

// One block for each part of each row.
template <class F, class Read> DEVICE typename F::State row_part(const Reduce& p, Read read) {
    __shared__ typename F::State room[WARP];
    u64 row = blockIdx.x / p.parts, part = blockIdx.x % p.parts;
    u64 begin = row * p.size + part * p.part, end = row * p.size + (part + 1) * p.part;
    if (end > (row + 1) * p.size) end = (row + 1) * p.size;
    typename F::State all = F::nothing();
    for (u64 i = begin + threadIdx.x; i < end; i += blockDim.x) all = F::join(all, read(i));
    return joined<F>(all, room);
}
// One thread for each part of each column: all that are side by side, then parts, then rows.
template <class F, class Read> DEVICE bool column_part(const Reduce& p, Read read, u64& to, typename F::State& all) {
    u64 number = thread_number();
    if (number >= p.outer * p.parts * p.inner) return false;
    u64 column = number % p.inner, rest = number / p.inner;
    u64 part = rest % p.parts, row = rest / p.parts;
    u64 begin = part * p.part, end = begin + p.part < p.size ? begin + p.part : p.size;
    all = F::nothing();
    for (u64 i = begin; i < end; i++) all = F::join(all, read((row * p.size + i) * p.inner + column));
    to = number;
    return true;
}

template <class F> struct Elements {
    const T* a;
    DEVICE typename F::State operator()(u64 i) const { return F::first(wide(a[i])); }
};
template <class F> struct States {
    const typename F::State* a;
    DEVICE typename F::State operator()(u64 i) const { return a[i]; }
};

#ifdef REDUCE
DEVICE T result(REDUCE::State all, double divisor) { return finished(END()(all, divisor)); }

// Elements to results, in rows and in columns.
KERNEL(rows, Reduce) {
    auto all = row_part<REDUCE>(p, Elements<REDUCE>{static_cast<const T*>(p.a)});
    if (threadIdx.x == 0) static_cast<T*>(p.out)[blockIdx.x] = result(all, p.divisor);
}
KERNEL(columns, Reduce) {
    u64 to;
    REDUCE::State all;
    if (column_part<REDUCE>(p, Elements<REDUCE>{static_cast<const T*>(p.a)}, to, all))
        static_cast<T*>(p.out)[to] = result(all, p.divisor);
}
// Elements to accumulators.
KERNEL(rows_begin, Reduce) {
    auto all = row_part<REDUCE>(p, Elements<REDUCE>{static_cast<const T*>(p.a)});
    if (threadIdx.x == 0) static_cast<REDUCE::State*>(p.out)[blockIdx.x] = all;
}
KERNEL(columns_begin, Reduce) {
    u64 to;
    REDUCE::State all;
    if (column_part<REDUCE>(p, Elements<REDUCE>{static_cast<const T*>(p.a)}, to, all))
        static_cast<REDUCE::State*>(p.out)[to] = all;
}
// Accumulators to results.
KERNEL(rows_end, Reduce) {
    auto all = row_part<REDUCE>(p, States<REDUCE>{static_cast<const REDUCE::State*>(p.a)});
    if (threadIdx.x == 0) static_cast<T*>(p.out)[blockIdx.x] = result(all, p.divisor);
}
KERNEL(columns_end, Reduce) {
    u64 to;
    REDUCE::State all;
    if (column_part<REDUCE>(p, States<REDUCE>{static_cast<const REDUCE::State*>(p.a)}, to, all))
        static_cast<T*>(p.out)[to] = result(all, p.divisor);
}
#endif

#ifdef ARG
// The index of the first largest (or smallest, or last of them) along the middle; a NaN beats any number.
struct Arg {
    i64* out;
    const T* a;
    u64 outer, size, inner;
    u32 smallest;
    u32 last;
};
struct Best {
    W value;
    i64 index;
};
DEVICE bool before(const Arg& p, W a, W b) {
    if (is_nan(b)) return false;
    return is_nan(a) || (p.smallest ? a < b : a > b);
}
DEVICE Best better(const Arg& p, Best a, Best b) {
    if (a.index < 0) return b;
    if (b.index < 0 || before(p, a.value, b.value)) return a;
    if (before(p, b.value, a.value)) return b;
    return (a.index < b.index) != bool(p.last) ? a : b;
}
KERNEL(arg_rows, Arg) {
    __shared__ Best room[WARP];
    u64 row = blockIdx.x;
    Best best = {W(0), -1};
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x)
        best = better(p, best, Best{wide(p.a[row * p.size + i]), i64(i)});
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2)
        best = better(p, best, Best{shuffled(best.value, d), __shfl_xor_sync(WHOLE_WARP, best.index, d)});
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (u32 warp = 1; warp < blockDim.x / WARP; warp++) best = better(p, best, room[warp]);
        p.out[row] = best.index;
    }
}
KERNEL(arg_columns, Arg) {
    u64 number = thread_number();
    if (number >= p.outer * p.inner) return;
    u64 row = number / p.inner, column = number % p.inner;
    Best best = {W(0), -1};
    for (u64 i = 0; i < p.size; i++)
        best = better(p, best, Best{wide(p.a[(row * p.size + i) * p.inner + column]), i64(i)});
    p.out[number] = best.index;
}
#endif
