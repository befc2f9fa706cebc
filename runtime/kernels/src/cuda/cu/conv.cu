// Convolution and pooling over three spatial dimensions; fewer are there with a size of 1.

typedef As<T>::Wide W;

struct Window {
    u64 in[3], out[3], kernel[3];
    u64 strides[3], dilations[3];
    i64 pads[3];
};

// Where place `o` of the result and place `k` of the window meet in one dimension of x; below 0 or past the end is padding.
DEVICE i64 met(const Window& w, int d, u64 o, u64 k) {
    return i64(o * w.strides[d] + k * w.dilations[d]) - w.pads[d];
}
DEVICE u64 volume(const u64 (&dims)[3]) { return dims[0] * dims[1] * dims[2]; }
// The offset in x of where a place of the result and one of the window meet, or -1 in the padding.
DEVICE i64 offset_of(const Window& w, u64 o, u64 k) {
    i64 z = met(w, 0, o / (w.out[1] * w.out[2]), k / (w.kernel[1] * w.kernel[2]));
    i64 y = met(w, 1, o / w.out[2] % w.out[1], k / w.kernel[2] % w.kernel[1]);
    i64 x = met(w, 2, o % w.out[2], k % w.kernel[2]);
    if (z < 0 || y < 0 || x < 0 || z >= i64(w.in[0]) || y >= i64(w.in[1]) || x >= i64(w.in[2])) return -1;
    return (z * i64(w.in[1]) + y) * i64(w.in[2]) + x;
}

#ifdef COLUMNS
// x [n, c, in..] to what a product takes: [n, c * kernel, out], zeros in the padding.
struct Columns {
    T* out;
    const T* x;
    u64 n, c;
    Window window;
};
KERNEL(columns, Columns) {
    u64 number = thread_number(), places = volume(p.window.out), kernel = volume(p.window.kernel);
    if (number >= p.n * p.c * kernel * places) return;
    u64 o = number % places, rest = number / places;
    i64 at = offset_of(p.window, o, rest % kernel);
    T nothing = {};
    p.out[number] = at < 0 ? nothing : p.x[i64(rest / kernel * volume(p.window.in)) + at];
}
#endif

#ifdef CONV
// x [n, c, in..], weight [m, c / groups, kernel..] (transposed: [c, m / groups, kernel..]), bias [m], and a residual like the
// result [n, m, out..].
struct Conv {
    T* out;
    const T* x;
    const T* weight;
    const T* bias;
    const T* residual;
    u64 n, c, m, groups;
    Window window;
    u32 activation;
    float first, second;
};
DEVICE T written(const Conv& p, u64 number, u64 m, W sum) {
    if (p.bias) sum += wide(p.bias[m]);
    if (p.residual) sum += wide(p.residual[number]);
    return narrow<T>(activated(sum, p.activation, p.first, p.second));
}
// One thread makes one element: for few channels in a group, of which a product has no use.
KERNEL(conv, Conv) {
    u64 number = thread_number(), places = volume(p.window.out), kernel = volume(p.window.kernel);
    if (number >= p.n * p.m * places) return;
    u64 o = number % places, m = number / places % p.m, n = number / places / p.m;
    u64 channels = p.c / p.groups, group = m / (p.m / p.groups), size = volume(p.window.in);
    const T* x = p.x + (n * p.c + group * channels) * size;
    const T* weight = p.weight + m * channels * kernel;
    W sum = W(0);
    for (u64 k = 0; k < kernel; k++) {
        i64 at = offset_of(p.window, o, k);
        if (at < 0) continue;
        for (u64 c = 0; c < channels; c++) sum += wide(x[c * size + u64(at)]) * wide(weight[c * kernel + k]);
    }
    p.out[number] = written(p, number, m, sum);
}
// What a product could not do as it wrote, in place: it knows a bias of columns, and here rows have one.
KERNEL(conv_epilogue, Conv) {
    u64 number = thread_number(), places = volume(p.window.out);
    if (number >= p.n * p.m * places) return;
    p.out[number] = written(p, number, number / places % p.m, wide(p.out[number]));
}
// The window's `in` is x's, `out` the result's: element i of x adds the weight from i * stride - pad on.
KERNEL(conv_transpose, Conv) {
    u64 number = thread_number(), places = volume(p.window.out), kernel = volume(p.window.kernel);
    if (number >= p.n * p.m * places) return;
    u64 o = number % places, m = number / places % p.m, n = number / places / p.m;
    u64 outputs = p.m / p.groups, channels = p.c / p.groups, group = m / outputs, size = volume(p.window.in);
    u64 place[3] = {o / (p.window.out[1] * p.window.out[2]), o / p.window.out[2] % p.window.out[1], o % p.window.out[2]};
    W sum = W(0);
    for (u64 k = 0; k < kernel; k++) {
        u64 tap[3] = {k / (p.window.kernel[1] * p.window.kernel[2]), k / p.window.kernel[2] % p.window.kernel[1], k % p.window.kernel[2]};
        i64 at = 0;
#pragma unroll
        for (int d = 0; d < 3; d++) {
            i64 from = i64(place[d]) + p.window.pads[d] - i64(tap[d] * p.window.dilations[d]);
            i64 i = from / i64(p.window.strides[d]);
            bool inside = from >= 0 && from % i64(p.window.strides[d]) == 0 && i < i64(p.window.in[d]);
            at = inside && at >= 0 ? at * i64(p.window.in[d]) + i : -1;
        }
        if (at < 0) continue;
        for (u64 c = 0; c < channels; c++) {
            u64 channel = group * channels + c;
            W x = wide(p.x[(n * p.c + channel) * size + u64(at)]);
            sum += x * wide(p.weight[(channel * outputs + m % outputs) * kernel + k]);
        }
    }
    p.out[number] = written(p, number, m, sum);
}
#endif

#ifdef POOL
// x [planes, in..] to [planes, out..].
struct Pool {
    T* out;
    i64* indices;
    const T* x;
    u64 planes;
    Window window;
    // What a window reaches of x and its padding, past which an average does not count.
    u64 padded[3];
    double power;
    u32 count_padding;
};
KERNEL(pool_max, Pool) {
    u64 number = thread_number(), places = volume(p.window.out), kernel = volume(p.window.kernel);
    if (number >= p.planes * places) return;
    u64 plane = number / places, o = number % places, size = volume(p.window.in);
    W best = Extreme<W>::lowest();
    i64 where = -1;
    for (u64 k = 0; k < kernel; k++) {
        i64 at = offset_of(p.window, o, k);
        if (at < 0) continue;
        W x = wide(p.x[plane * size + u64(at)]);
        // The first of several, and a NaN before any number.
        if (where < 0 || (!is_nan(best) && (is_nan(x) || x > best))) {
            best = x;
            where = at;
        }
    }
    p.out[number] = narrow<T>(best);
    if (p.indices) p.indices[number] = where < 0 ? 0 : i64(plane * size) + where;
}
#ifdef IS_REAL
DEVICE bool counts(const Pool& p, u64 o, u64 k) {
    u64 place[3] = {o / (p.window.out[1] * p.window.out[2]), o / p.window.out[2] % p.window.out[1], o % p.window.out[2]};
    u64 tap[3] = {k / (p.window.kernel[1] * p.window.kernel[2]), k / p.window.kernel[2] % p.window.kernel[1], k % p.window.kernel[2]};
    for (int d = 0; d < 3; d++)
        if (place[d] * p.window.strides[d] + tap[d] * p.window.dilations[d] >= p.padded[d]) return false;
    return true;
}
KERNEL(pool_average, Pool) {
    u64 number = thread_number(), places = volume(p.window.out), kernel = volume(p.window.kernel);
    if (number >= p.planes * places) return;
    u64 plane = number / places, o = number % places, size = volume(p.window.in), count = 0;
    W sum = W(0);
    for (u64 k = 0; k < kernel; k++) {
        i64 at = offset_of(p.window, o, k);
        if (at >= 0) sum += wide(p.x[plane * size + u64(at)]);
        count += at >= 0 || (p.count_padding && counts(p, o, k));
    }
    p.out[number] = narrow<T>(sum / W(count));
}
KERNEL(pool_lp, Pool) {
    u64 number = thread_number(), places = volume(p.window.out), kernel = volume(p.window.kernel);
    if (number >= p.planes * places) return;
    u64 plane = number / places, o = number % places, size = volume(p.window.in);
    W sum = W(0);
    for (u64 k = 0; k < kernel; k++) {
        i64 at = offset_of(p.window, o, k);
        if (at >= 0) sum += W(pow(double(fabs(wide(p.x[plane * size + u64(at)]))), p.power));
    }
    p.out[number] = narrow<T>(W(pow(double(sum), 1.0 / p.power)));
}
#endif
#endif
