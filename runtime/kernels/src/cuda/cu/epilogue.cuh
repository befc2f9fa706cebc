// What is done to a sum before it is written: the activations that operations fuse.

#ifdef IS_REAL
// As `activation` in plan/product.rs numbers them.
enum { PLAIN, RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, HARD_SWISH, LEAKY_RELU, CLIP };

// e to a number that is not positive cannot overflow.
template <class R> DEVICE R logistic(R a) {
    R e = exp(-fabs(a));
    return (a < R(0) ? e : R(1)) / (R(1) + e);
}
// Minus infinity times nothing is nothing here.
template <class R> DEVICE R gelu(R a) {
    R tail = erfc(-a * R(0.70710678118654752440));
    return tail == R(0) ? R(0) : R(0.5) * a * tail;
}
template <class R> DEVICE R activated(R a, u32 activation, float first, float second) {
    switch (activation) {
        case RELU:
            return a <= R(0) ? R(0) : a;
        case GELU:
            return gelu(a);
        case GELU_TANH:
            return R(0.5) * a * (R(1) + tanh(R(0.79788456080286535588) * (a + R(0.044715) * a * a * a)));
        case SILU:
            return a * logistic(a);
        case SIGMOID:
            return logistic(a);
        case TANH:
            return tanh(a);
        case HARD_SWISH:
            return a * larger(R(0), smaller(R(1), a / R(6) + R(0.5)));
        case LEAKY_RELU:
            return a < R(0) ? a * R(first) : a;
        case CLIP:
            return is_nan(a) ? a : (a < R(first) ? R(first) : a) > R(second) ? R(second) : a < R(first) ? R(first) : a;
        default:
            return a;
    }
}

// Products of [batch, m, k] by [batch, k, n], either side read in any strides: c = activation(a b + bias + residual).
struct Product {
    T* c;
    const T* a;
    const T* b;
    const T* bias;
    const T* residual;
    u64 m, n, k, batch;
    i64 a_batch, a_row, a_column;
    i64 b_batch, b_row, b_column;
    u32 activation;
    float first, second;
};

DEVICE void finish(const Product& p, u64 batch, u64 row, u64 column, As<T>::Wide sum) {
    u64 at = (batch * p.m + row) * p.n + column;
    if (p.bias) sum += wide(p.bias[column]);
    if (p.residual) sum += wide(p.residual[at]);
    p.c[at] = narrow<T>(activated(sum, p.activation, p.first, p.second));
}
#endif
