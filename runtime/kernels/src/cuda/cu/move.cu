// What moves elements and does not look at them. T is a word of the elements' size.

typedef ELEMENT T;
#define VECTOR (16 / int(sizeof(T)))

struct Copy {
    T* out;
    const T* a;
    // The strides of the result and of the operand.
    Walk<2> walk;
};
template <int V> DEVICE void copy(const Copy& p) {
    u64 index = thread_number() * V;
    if (index >= p.walk.count) return;
    i64 at[2];
    locate(p.walk, index, at);
    store<V>(p.out, at[0], load<V>(p.a, at[1], p.walk.strides[1][p.walk.rank - 1]));
}
KERNEL(copy_vector, Copy) { copy<VECTOR>(p); }
KERNEL(copy, Copy) { copy<1>(p); }

// [batch, rows, columns] to [batch, columns, rows] by tiles, so that both sides are read and written along rows.
#define TILE 32
struct Transpose {
    T* out;
    const T* a;
    u64 rows, columns;
    u32 batch;
};
KERNEL_OF(256, transpose, Transpose) {
    __shared__ T tile[TILE][TILE + 1];
    // Tiles are numbered along x, which alone may be large.
    u64 across = (p.columns + TILE - 1) / TILE;
    u64 left = u64(blockIdx.x) % across * TILE, top = u64(blockIdx.x) / across * TILE;
    for (u64 batch = blockIdx.y; batch < p.batch; batch += gridDim.y) {
        const T* from = p.a + batch * p.rows * p.columns;
        T* to = p.out + batch * p.rows * p.columns;
        u32 x = threadIdx.x % TILE, y = threadIdx.x / TILE;
#pragma unroll
        for (u32 i = y; i < TILE; i += 8)
            if (top + i < p.rows && left + x < p.columns)
                tile[i][x] = from[(top + i) * p.columns + left + x];
        __syncthreads();
#pragma unroll
        for (u32 i = y; i < TILE; i += 8)
            if (left + i < p.columns && top + x < p.rows)
                to[(left + i) * p.rows + top + x] = tile[x][i];
        __syncthreads();
    }
}

struct Select {
    T* out;
    const u8* condition;
    const T* a;
    const T* b;
    Walk<3> walk;
};
template <int V> DEVICE void select(const Select& p) {
    u64 index = thread_number() * V;
    if (index >= p.walk.count) return;
    i64 at[3];
    locate(p.walk, index, at);
    u32 last = p.walk.rank - 1;
    i64 step = p.walk.strides[0][last];
    Pack<T, V> a = load<V>(p.a, at[1], p.walk.strides[1][last]);
    Pack<T, V> b = load<V>(p.b, at[2], p.walk.strides[2][last]);
#pragma unroll
    for (int i = 0; i < V; i++)
        if (p.condition[at[0] + i * step]) b.at[i] = a.at[i];
    store<V>(p.out, i64(index), b);
}
KERNEL(select_vector, Select) { select<VECTOR>(p); }
KERNEL(select, Select) { select<1>(p); }

// Every element is `word`.
struct Fill {
    T* out;
    u64 word;
    u64 count;
};
KERNEL(fill, Fill) {
    u64 index = thread_number();
    if (index < p.count) p.out[index] = *reinterpret_cast<const T*>(&p.word);
}

// data [outer, size, inner], indices [count] of 4 or 8 bytes, negative from the end: [outer, count, inner]. What an
// index out of range picks is left alone, and the flag is set.
struct Gather {
    T* out;
    const T* data;
    const void* indices;
    u32* flag;
    u64 outer, size, count, inner;
    u32 wide_indices;
};
template <int V> DEVICE void gather(const Gather& p) {
    u64 inner = p.inner / V;
    u64 number = thread_number();
    if (number >= p.outer * p.count * inner) return;
    u64 row = number / inner, column = (number - row * inner) * V;
    u64 outer = row / p.count, which = row - outer * p.count;
    i64 index = p.wide_indices ? static_cast<const i64*>(p.indices)[which] : i64(static_cast<const i32*>(p.indices)[which]);
    if (index < 0) index += i64(p.size);
    if (index < 0 || index >= i64(p.size)) {
        if (p.flag) *p.flag = 1;
        return;
    }
    store<V>(p.out, i64(row * p.inner + column), load<V>(p.data, i64((outer * p.size + u64(index)) * p.inner + column), 1));
}
KERNEL(gather_vector, Gather) { gather<VECTOR>(p); }
KERNEL(gather, Gather) { gather<1>(p); }
