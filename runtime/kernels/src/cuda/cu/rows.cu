// Softmax and norms: a block has one row, which it reads once and keeps in shared memory as FP32 (FP64 for FP64) where
// it fits, else reads again.

typedef ELEMENT T;
typedef As<T>::Wide W;

// A row's elements lie `inner` apart; rows are [outer, inner].
struct Softmax {
    T* out;
    const T* a;
    u64 size, inner;
    u32 kept;
};

template <bool logarithm> DEVICE void softmax(const Softmax& p) {
    DYNAMIC_SHARED(W, kept);
    __shared__ W room[WARP];
    u64 outer = blockIdx.x / p.inner, column = blockIdx.x % p.inner;
    const T* a = p.a + outer * p.size * p.inner + column;
    T* out = p.out + outer * p.size * p.inner + column;
    W top = Extreme<W>::lowest();
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        W x = wide(a[i * p.inner]);
        if (p.kept) kept[i] = x;
        top = larger(top, x);
    }
    top = across_block(top, Extreme<W>::lowest(), room, Larger());
    W sum = W(0);
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        W x = (p.kept ? kept[i] : wide(a[i * p.inner])) - top;
        W e = exp(x);
        if (p.kept) kept[i] = logarithm ? x : e;
        sum += e;
    }
    sum = across_block(sum, W(0), room, Plus());
    W scale = logarithm ? log(sum) : W(1) / sum;
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        W x;
        if (p.kept) {
            x = kept[i];
        } else {
            x = wide(a[i * p.inner]) - top;
            if (!logarithm) x = exp(x);
        }
        out[i * p.inner] = narrow<T>(logarithm ? x - scale : x * scale);
    }
}
#ifdef SOFTMAX
KERNEL(softmax, Softmax) { softmax<false>(p); }
KERNEL(log_softmax, Softmax) { softmax<true>(p); }
#endif

// norm(x + residual) over the last `size` elements, with `scale` and `bias` [size]; x + residual goes to `sum` when there
// is one. Vectors of V elements where size and addresses allow.
struct Norm {
    T* out;
    T* sum;
    const T* x;
    const T* residual;
    const T* scale;
    const T* bias;
    u64 size;
    double epsilon;
    u32 kept;
};

template <bool centred, int V> DEVICE void norm(const Norm& p) {
    DYNAMIC_SHARED(W, kept);
    __shared__ W room[WARP];
    u64 begin = u64(blockIdx.x) * p.size;
    auto at = [&](u64 i, W(&values)[V]) {
        Pack<T, V> x = load<V>(p.x, i64(begin + i), 1);
        if (p.residual) {
            Pack<T, V> y = load<V>(p.residual, i64(begin + i), 1);
#pragma unroll
            for (int v = 0; v < V; v++) values[v] = wide(x.at[v]) + wide(y.at[v]);
        } else {
#pragma unroll
            for (int v = 0; v < V; v++) values[v] = wide(x.at[v]);
        }
    };
    W total = W(0), squares = W(0);
    for (u64 i = u64(threadIdx.x) * V; i < p.size; i += u64(blockDim.x) * V) {
        W values[V];
        at(i, values);
        if (p.sum) {
            Pack<T, V> all;
#pragma unroll
            for (int v = 0; v < V; v++) all.at[v] = narrow<T>(values[v]);
            store<V>(p.sum, i64(begin + i), all);
        }
#pragma unroll
        for (int v = 0; v < V; v++) {
            if (p.kept) kept[i + v] = values[v];
            total += values[v];
            squares += values[v] * values[v];
        }
    }
    W mean = W(0), variance;
    if (centred) {
        mean = across_block(total, W(0), room, Plus()) / W(p.size);
        // Around the mean: the mean of squares minus the square of the mean would lose digits.
        W apart = W(0);
        for (u64 i = u64(threadIdx.x) * V; i < p.size; i += u64(blockDim.x) * V) {
            W values[V];
            if (p.kept) {
#pragma unroll
                for (int v = 0; v < V; v++) values[v] = kept[i + v];
            } else {
                at(i, values);
            }
#pragma unroll
            for (int v = 0; v < V; v++) apart += (values[v] - mean) * (values[v] - mean);
        }
        variance = across_block(apart, W(0), room, Plus()) / W(p.size);
    } else {
        variance = across_block(squares, W(0), room, Plus()) / W(p.size);
    }
    W factor = W(1) / sqrt(variance + W(p.epsilon));
    for (u64 i = u64(threadIdx.x) * V; i < p.size; i += u64(blockDim.x) * V) {
        W values[V];
        if (p.kept) {
#pragma unroll
            for (int v = 0; v < V; v++) values[v] = kept[i + v];
        } else {
            at(i, values);
        }
        Pack<T, V> out, scale = load<V>(p.scale, i64(i), 1);
        Pack<T, V> bias = p.bias ? load<V>(p.bias, i64(i), 1) : scale;
#pragma unroll
        for (int v = 0; v < V; v++) {
            W y = (values[v] - mean) * factor * wide(scale.at[v]);
            out.at[v] = narrow<T>(p.bias ? y + wide(bias.at[v]) : y);
        }
        store<V>(p.out, i64(begin + i), out);
    }
}
#ifdef NORM
#define VECTOR (16 / int(sizeof(T)))
KERNEL(layer_norm_vector, Norm) { norm<true, VECTOR>(p); }
KERNEL(layer_norm, Norm) { norm<true, 1>(p); }
KERNEL(rms_norm_vector, Norm) { norm<false, VECTOR>(p); }
KERNEL(rms_norm, Norm) { norm<false, 1>(p); }

#endif

#ifdef BATCH_NORM
// [batch, channels, inner] with scale, bias, mean and variance [channels], as at inference.
struct BatchNorm {
    T* out;
    const T* x;
    const T* scale;
    const T* bias;
    const T* mean;
    const T* variance;
    u64 count, channels, inner;
    double epsilon;
};
KERNEL(batch_norm, BatchNorm) {
    u64 index = thread_number();
    if (index >= p.count) return;
    u64 c = index / p.inner % p.channels;
    W factor = wide(p.scale[c]) / sqrt(wide(p.variance[c]) + W(p.epsilon));
    p.out[index] = narrow<T>((wide(p.x[index]) - wide(p.mean[c])) * factor + wide(p.bias[c]));
}
#endif

#ifdef GROUP_NORM
// [n, channels, inner]: a block has one group of `size` elements, whose channels each have a scale and a bias [channels].
struct GroupNorm {
    T* out;
    const T* x;
    const T* scale;
    const T* bias;
    u64 groups, channels, inner, size;
    double epsilon;
};
KERNEL(group_norm, GroupNorm) {
    __shared__ W room[WARP];
    u64 begin = u64(blockIdx.x) * p.size, first = u64(blockIdx.x) % p.groups * (p.channels / p.groups);
    W total = W(0), apart = W(0);
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) total += wide(p.x[begin + i]);
    W mean = across_block(total, W(0), room, Plus()) / W(p.size);
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        W x = wide(p.x[begin + i]) - mean;
        apart += x * x;
    }
    W factor = W(1) / sqrt(across_block(apart, W(0), room, Plus()) / W(p.size) + W(p.epsilon));
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        u64 c = first + i / p.inner;
        p.out[begin + i] = narrow<T>((wide(p.x[begin + i]) - mean) * factor * wide(p.scale[c]) + wide(p.bias[c]));
    }
}
#endif

#ifdef LP_NORM
// Rows as a softmax has them, divided by their norm; 0 where that is 0.
struct LpNorm {
    T* out;
    const T* a;
    u64 size, inner;
    u32 squares;
};
KERNEL(lp_norm, LpNorm) {
    __shared__ W room[WARP];
    u64 begin = blockIdx.x / p.inner * p.size * p.inner + blockIdx.x % p.inner;
    W sum = W(0);
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        W x = wide(p.a[begin + i * p.inner]);
        sum += p.squares ? x * x : fabs(x);
    }
    sum = across_block(sum, W(0), room, Plus());
    W norm = p.squares ? sqrt(sum) : sum;
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x)
        p.out[begin + i * p.inner] = narrow<T>(norm == W(0) ? W(0) : wide(p.a[begin + i * p.inner]) / norm);
}
#endif
