// What training takes: derivatives, losses and the steps of optimisers. FP32 and FP64; sums that decide the last digits are
// accumulated in FP64.

typedef ELEMENT T;
typedef T W;

#ifdef SLOPE
template <class R> DEVICE R logistic(R a) {
    R e = exp(-fabs(a));
    return (a < R(0) ? e : R(1)) / (R(1) + e);
}
struct slope_relu {
    DEVICE W operator()(W y) const { return y > W(0) ? W(1) : W(0); }
};
struct slope_sigmoid {
    DEVICE W operator()(W y) const { return y * (W(1) - y); }
};
struct slope_tanh {
    DEVICE W operator()(W y) const { return W(1) - y * y; }
};
struct slope_silu {
    DEVICE W operator()(W x) const {
        W s = logistic(x);
        return s * (W(1) + x * (W(1) - s));
    }
};
struct slope_gelu {
    DEVICE W operator()(W x) const {
        W below = W(0.5) * erfc(-x * W(0.70710678118654752440));
        return below + x * exp(W(-0.5) * x * x) * W(0.39894228040143267794);
    }
};
struct slope_gelu_tanh {
    DEVICE W operator()(W x) const {
        W c = W(0.79788456080286535588), t = tanh(c * (x + W(0.044715) * x * x * x));
        return W(0.5) * (W(1) + t) + W(0.5) * x * (W(1) - t * t) * c * (W(1) + W(0.134145) * x * x);
    }
};
struct Slope {
    T* dx;
    const T* dy;
    const T* z;
    u64 count;
};
KERNEL(slope, Slope) {
    u64 i = thread_number();
    if (i < p.count) p.dx[i] = p.dy[i] * SLOPE()(p.z[i]);
}
#endif

#ifdef SOFTMAX
// Rows as in rows.cu.
struct SoftmaxGradient {
    T* dx;
    const T* dy;
    const T* y;
    u64 size, inner;
    u32 logarithm;
};
KERNEL(softmax_gradient, SoftmaxGradient) {
    __shared__ double room[WARP];
    u64 begin = blockIdx.x / p.inner * p.size * p.inner + blockIdx.x % p.inner;
    double sum = 0.0;
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        u64 at = begin + i * p.inner;
        sum += p.logarithm ? double(p.dy[at]) : double(p.dy[at]) * double(p.y[at]);
    }
    W all = W(across_block(sum, 0.0, room, Plus()));
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        u64 at = begin + i * p.inner;
        p.dx[at] = p.logarithm ? p.dy[at] - exp(p.y[at]) * all : p.y[at] * (p.dy[at] - all);
    }
}
#endif

#ifdef NORM
// A norm of rows of `size`; `rows_facts` gets each row's mean and 1 / deviation for the second kernel.
struct NormGradient {
    T* dx;
    T* dscale;
    T* dbias;
    const T* dy;
    const T* x;
    const T* scale;
    double* facts;
    u64 rows, size;
    double epsilon;
    u32 centred;
};
KERNEL(norm_gradient, NormGradient) {
    __shared__ double room[WARP];
    u64 begin = u64(blockIdx.x) * p.size;
    double n = double(p.size), total = 0.0, apart = 0.0;
    if (p.centred)
        for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) total += double(p.x[begin + i]);
    double mean = across_block(total, 0.0, room, Plus()) / n;
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        double x = double(p.x[begin + i]) - mean;
        apart += x * x;
    }
    double factor = 1.0 / sqrt(across_block(apart, 0.0, room, Plus()) / n + p.epsilon);
    double plain = 0.0, along = 0.0;
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        double g = double(p.dy[begin + i]) * double(p.scale[i]);
        plain += g;
        along += g * (double(p.x[begin + i]) - mean) * factor;
    }
    plain = p.centred ? across_block(plain, 0.0, room, Plus()) / n : 0.0;
    along = across_block(along, 0.0, room, Plus()) / n;
    for (u64 i = threadIdx.x; i < p.size; i += blockDim.x) {
        double g = double(p.dy[begin + i]) * double(p.scale[i]);
        double normal = (double(p.x[begin + i]) - mean) * factor;
        p.dx[begin + i] = T(factor * (g - plain - normal * along));
    }
    if (threadIdx.x == 0) {
        p.facts[2 * u64(blockIdx.x)] = mean;
        p.facts[2 * u64(blockIdx.x) + 1] = factor;
    }
}
KERNEL(norm_weight_gradient, NormGradient) {
    u64 column = thread_number();
    if (column >= p.size) return;
    double scale = 0.0, bias = 0.0;
    for (u64 row = 0; row < p.rows; row++) {
        double g = double(p.dy[row * p.size + column]);
        scale += g * (double(p.x[row * p.size + column]) - p.facts[2 * row]) * p.facts[2 * row + 1];
        bias += g;
    }
    p.dscale[column] = T(scale);
    if (p.dbias) p.dbias[column] = T(bias);
}
#endif

#ifdef GATHER
// dy [outer, count, inner] is added to zeros [outer, size, inner]. A thread has one place of the result and looks at every
// index, so that sums are the same each time.
struct GatherGradient {
    T* dx;
    const T* dy;
    const void* indices;
    u32* flag;
    u64 outer, size, count, inner;
    u32 wide_indices;
};
KERNEL(gather_gradient, GatherGradient) {
    u64 number = thread_number();
    if (number >= p.outer * p.size * p.inner) return;
    u64 column = number % p.inner, place = number / p.inner % p.size, outer = number / p.inner / p.size;
    double sum = 0.0;
    for (u64 i = 0; i < p.count; i++) {
        i64 index = p.wide_indices ? static_cast<const i64*>(p.indices)[i] : i64(static_cast<const i32*>(p.indices)[i]);
        if (index < 0) index += i64(p.size);
        if (index < 0 || index >= i64(p.size)) *p.flag = 1;
        if (index == i64(place)) sum += double(p.dy[(outer * p.count + i) * p.inner + column]);
    }
    p.dx[number] = T(sum);
}
#endif

#ifdef LOSS
// `sums` gets a loss for each row or block, and `weights` how much of it counts in the mean.
struct Loss {
    T* out;
    T* gradient;
    const T* prediction;
    const void* target;
    double* sums;
    double* weights;
    // What gradients are multiplied by; the third kernel reads what the second has written.
    double* factor;
    u32* flag;
    u64 rows, classes;
    u64 parts;
    double smoothing;
    i64 ignore;
    u32 has_ignore, wide_labels, mean, binary;
};
DEVICE i64 label_of(const Loss& p, u64 row) {
    return p.wide_labels ? static_cast<const i64*>(p.target)[row] : i64(static_cast<const i32*>(p.target)[row]);
}
// A row of logits: its largest, and ln of the sum of e to the rest.
struct Row {
    double top, rest;
};
DEVICE Row row_of(const Loss& p, u64 row, double* room) {
    const T* x = p.prediction + row * p.classes;
    double top = Extreme<double>::lowest(), sum = 0.0;
    for (u64 i = threadIdx.x; i < p.classes; i += blockDim.x) top = larger(top, double(x[i]));
    top = across_block(top, Extreme<double>::lowest(), room, Larger());
    for (u64 i = threadIdx.x; i < p.classes; i += blockDim.x) sum += exp(double(x[i]) - top);
    return Row{top, log(across_block(sum, 0.0, room, Plus()))};
}
KERNEL(cross_entropy, Loss) {
    __shared__ double room[WARP];
    u64 row = blockIdx.x;
    i64 label = label_of(p, row);
    bool ignored = p.has_ignore && label == p.ignore, outside = label < 0 || label >= i64(p.classes);
    if (!ignored && outside) {
        if (threadIdx.x == 0) *p.flag = 1;
        return;
    }
    Row all = row_of(p, row, room);
    double each = 0.0;
    const T* x = p.prediction + row * p.classes;
    for (u64 i = threadIdx.x; i < p.classes; i += blockDim.x) each += double(x[i]) - all.top - all.rest;
    each = across_block(each, 0.0, room, Plus());
    if (threadIdx.x == 0) {
        double own = ignored ? 0.0 : double(x[label]) - all.top - all.rest;
        double loss = -(1.0 - p.smoothing) * own - p.smoothing / double(p.classes) * each;
        p.sums[row] = ignored ? 0.0 : loss;
        p.weights[row] = ignored ? 0.0 : 1.0;
    }
}
KERNEL(cross_entropy_gradient, Loss) {
    __shared__ double room[WARP];
    u64 row = blockIdx.x;
    i64 label = label_of(p, row);
    bool ignored = p.has_ignore && label == p.ignore;
    Row all = row_of(p, row, room);
    const T* x = p.prediction + row * p.classes;
    for (u64 i = threadIdx.x; i < p.classes; i += blockDim.x) {
        double likely = exp(double(x[i]) - all.top - all.rest);
        double wanted = (i64(i) == label ? 1.0 - p.smoothing : 0.0) + p.smoothing / double(p.classes);
        p.gradient[row * p.classes + i] = ignored ? T(0) : T((likely - wanted) * *p.factor);
    }
}
// Losses of elements, `parts` blocks of them.
KERNEL(elements_loss, Loss) {
    __shared__ double room[WARP];
    const T* target = static_cast<const T*>(p.target);
    double sum = 0.0, count = 0.0;
    for (u64 i = thread_number(); i < p.rows; i += p.parts * blockDim.x) {
        double x = double(p.prediction[i]), t = double(target[i]);
        sum += p.binary ? (x > 0.0 ? x : 0.0) - x * t + log1p(exp(-fabs(x))) : (x - t) * (x - t);
        count += 1.0;
    }
    sum = across_block(sum, 0.0, room, Plus());
    count = across_block(count, 0.0, room, Plus());
    if (threadIdx.x == 0) {
        p.sums[blockIdx.x] = sum;
        p.weights[blockIdx.x] = count;
    }
}
KERNEL(elements_gradient, Loss) {
    u64 i = thread_number();
    if (i >= p.rows) return;
    double x = double(p.prediction[i]), t = double(static_cast<const T*>(p.target)[i]);
    double e = exp(-fabs(x)), likely = (x < 0.0 ? e : 1.0) / (1.0 + e);
    p.gradient[i] = T((p.binary ? likely - t : 2.0 * (x - t)) * *p.factor);
}
// One block joins what the first kernel made.
KERNEL(loss_end, Loss) {
    __shared__ double room[WARP];
    double sum = 0.0, count = 0.0;
    for (u64 i = threadIdx.x; i < p.parts; i += blockDim.x) {
        sum += p.sums[i];
        count += p.weights[i];
    }
    sum = across_block(sum, 0.0, room, Plus());
    count = across_block(count, 0.0, room, Plus());
    if (threadIdx.x == 0) {
        *p.out = T(p.mean ? sum / count : sum);
        *p.factor = p.mean ? (count == 0.0 ? 0.0 : 1.0 / count) : 1.0;
    }
}
#endif

#ifdef STEP
// One tensor of an optimiser's step; factors are rounded once to the tensors' dtype.
struct Step {
    T* to_parameter;
    T* to_first;
    T* to_second;
    const T* parameter;
    const T* first;
    const T* second;
    const T* gradient;
    u64 count;
    double lr, momentum, decay, beta1, beta2, epsilon, correction1, correction2;
    u32 nesterov, decoupled;
};
KERNEL(sgd, Step) {
    u64 i = thread_number();
    if (i >= p.count) return;
    W x = p.parameter[i], g = p.gradient[i] + W(p.decay) * x;
    if (p.first) {
        W v = W(p.momentum) * p.first[i] + g;
        p.to_first[i] = v;
        g = p.nesterov ? g + W(p.momentum) * v : v;
    }
    p.to_parameter[i] = x - W(p.lr) * g;
}
KERNEL(adam, Step) {
    u64 i = thread_number();
    if (i >= p.count) return;
    W x = p.parameter[i], g = p.gradient[i];
    if (p.decoupled) x = x - W(p.lr * p.decay) * x;
    else g = g + W(p.decay) * x;
    W m = W(p.beta1) * p.first[i] + W(1.0 - p.beta1) * g;
    W v = W(p.beta2) * p.second[i] + W(1.0 - p.beta2) * g * g;
    p.to_first[i] = m;
    p.to_second[i] = v;
    p.to_parameter[i] = x - W(p.lr / p.correction1) * m / (sqrt(v) * W(1.0 / sqrt(p.correction2)) + W(p.epsilon));
}
#endif

#ifdef CLIP_NORM
struct Clip {
    T* out;
    const T* gradient;
    // What one block found; the last number is what gradients are multiplied by.
    double* sums;
    T* norm;
    u64 count, parts, all;
    double norm_max;
};
KERNEL(squares, Clip) {
    __shared__ double room[WARP];
    double sum = 0.0;
    for (u64 i = thread_number(); i < p.count; i += p.parts * blockDim.x) sum += double(p.gradient[i]) * double(p.gradient[i]);
    sum = across_block(sum, 0.0, room, Plus());
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}
KERNEL(squares_end, Clip) {
    __shared__ double room[WARP];
    double sum = 0.0;
    for (u64 i = threadIdx.x; i < p.all; i += blockDim.x) sum += p.sums[i];
    double norm = sqrt(across_block(sum, 0.0, room, Plus()));
    if (threadIdx.x == 0) {
        double factor = p.norm_max / (norm + 1e-6);
        *p.norm = T(norm);
        p.sums[p.all] = factor > 1.0 ? 1.0 : factor;
    }
}
KERNEL(scaled, Clip) {
    u64 i = thread_number();
    if (i < p.count) p.out[i] = p.gradient[i] * W(p.sums[p.all]);
}
#endif
