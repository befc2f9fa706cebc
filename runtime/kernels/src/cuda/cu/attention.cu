// Attention, softmax(scale q k^T + mask) v, without ever writing the scores to memory: a block has 32 queries of one
// head and goes over the keys in tiles of 32, keeping for each query the largest score so far, the sum of exponentials
// relative to it, and the result in that scale.

typedef ELEMENT T;
typedef As<T>::Wide W;
#define TILE 32
// Threads that share a query, which are neighbours in one warp.
#define SHARE 8
// The longest value vector, as what a thread keeps of the result: VALUES_MAX / SHARE numbers.
#define VALUES_MAX 256

struct Strides {
    i64 batch, head, row;
};
#ifdef ATTENTION
struct Attention {
    T* out;
    const T* q;
    const T* k;
    const T* v;
    const void* mask;
    u64 queries, keys;
    u32 heads, group, d, e;
    Strides at_out, at_q, at_k, at_v;
    i64 mask_batch, mask_head, mask_row, mask_key;
    double scale;
    // A mask of BOOL says what to keep; any other is added.
    u32 causal, mask_is_bool;
    u64 batch;
};

DEVICE W masked(const Attention& p, W score, u64 batch, u64 head, u64 query, u64 key) {
    if (p.causal && i64(key) > i64(query) + i64(p.keys) - i64(p.queries)) return Extreme<W>::lowest();
    if (!p.mask) return score;
    i64 at = i64(batch) * p.mask_batch + i64(head) * p.mask_head + i64(query) * p.mask_row + i64(key) * p.mask_key;
    if (p.mask_is_bool) return static_cast<const u8*>(p.mask)[at] ? score : Extreme<W>::lowest();
    return score + wide(static_cast<const T*>(p.mask)[at]);
}

KERNEL_OF(256, attention, Attention) {
    DYNAMIC_SHARED(W, room);
    // Rows are padded by one so that different rows fall into different banks.
    W* q = room;
    W* k = q + TILE * (p.d + 1);
    W* v = k + TILE * (p.d + 1);
    W* weights = v + TILE * (p.e + 1);
    u64 first = u64(blockIdx.x) * TILE;
    u32 row = threadIdx.x / SHARE, part = threadIdx.x % SHARE;
    for (u64 both = blockIdx.y; both < p.batch * p.heads; both += gridDim.y) {
        u64 batch = both / p.heads, head = both % p.heads;
        const T* from_q = p.q + i64(batch) * p.at_q.batch + i64(head) * p.at_q.head;
        const T* from_k = p.k + i64(batch) * p.at_k.batch + i64(head / p.group) * p.at_k.head;
        const T* from_v = p.v + i64(batch) * p.at_v.batch + i64(head / p.group) * p.at_v.head;
        for (u32 i = threadIdx.x; i < TILE * p.d; i += blockDim.x) {
            u32 y = i / p.d, x = i % p.d;
            q[y * (p.d + 1) + x] = first + y < p.queries ? wide(from_q[i64(first + y) * p.at_q.row + x]) * W(p.scale) : W(0);
        }
        W top = Extreme<W>::lowest(), sum = W(0), result[VALUES_MAX / SHARE];
#pragma unroll
        for (int i = 0; i < VALUES_MAX / SHARE; i++) result[i] = W(0);
        // Keys after the last query of the block are nobody's.
        i64 end = i64(p.keys);
        if (p.causal) {
            i64 last = i64(first) + TILE + i64(p.keys) - i64(p.queries);
            if (last < end) end = last;
        }
        for (i64 begin = 0; begin < end; begin += TILE) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < TILE * p.d; i += blockDim.x) {
                u32 y = i / p.d, x = i % p.d;
                k[y * (p.d + 1) + x] = begin + y < i64(p.keys) ? wide(from_k[(begin + y) * p.at_k.row + x]) : W(0);
            }
            for (u32 i = threadIdx.x; i < TILE * p.e; i += blockDim.x) {
                u32 y = i / p.e, x = i % p.e;
                v[y * (p.e + 1) + x] = begin + y < i64(p.keys) ? wide(from_v[(begin + y) * p.at_v.row + x]) : W(0);
            }
            __syncthreads();
            W scores[TILE / SHARE], high = Extreme<W>::lowest();
#pragma unroll
            for (u32 i = 0; i < TILE / SHARE; i++) {
                u32 key = part + i * SHARE;
                W score = W(0);
                #pragma unroll 4
                for (u32 x = 0; x < p.d; x++) score += q[row * (p.d + 1) + x] * k[key * (p.d + 1) + x];
                bool inside = begin + key < i64(p.keys) && first + row < p.queries;
                scores[i] = inside ? masked(p, score, batch, head, first + row, u64(begin) + key) : Extreme<W>::lowest();
                high = larger(high, scores[i]);
            }
#pragma unroll
            for (int distance = SHARE / 2; distance > 0; distance /= 2)
                high = larger(high, __shfl_xor_sync(WHOLE_WARP, high, distance));
            W next = larger(top, high);
            // As long as nothing may be looked at, there is nothing to be relative to.
            bool any = next != Extreme<W>::lowest();
            W shrink = any ? exp(top - next) : W(1);
            W added = W(0);
#pragma unroll
            for (u32 i = 0; i < TILE / SHARE; i++) {
                W weight = any ? exp(scores[i] - next) : W(0);
                weights[row * (TILE + 1) + part + i * SHARE] = weight;
                added += weight;
            }
#pragma unroll
            for (int distance = SHARE / 2; distance > 0; distance /= 2)
                added += __shfl_xor_sync(WHOLE_WARP, added, distance);
            sum = sum * shrink + added;
            top = next;
            // A query's weights were written by threads of this warp.
            __syncwarp();
#pragma unroll
            for (u32 i = 0; i < VALUES_MAX / SHARE; i++) {
                u32 x = part + i * SHARE;
                if (x >= p.e) break;
                W all = result[i] * shrink;
                #pragma unroll 2
                for (u32 key = 0; key < TILE; key++) all += weights[row * (TILE + 1) + key] * v[key * (p.e + 1) + x];
                result[i] = all;
            }
            __syncwarp();
        }
        if (first + row < p.queries) {
            T* to = p.out + i64(batch) * p.at_out.batch + i64(head) * p.at_out.head + i64(first + row) * p.at_out.row;
            // Who may look at nothing gets 0.
            W factor = sum == W(0) ? W(0) : W(1) / sum;
#pragma unroll
            for (u32 i = 0; i < VALUES_MAX / SHARE; i++) {
                u32 x = part + i * SHARE;
                if (x >= p.e) break;
                to[x] = narrow<T>(result[i] * factor);
            }
        }
        __syncthreads();
    }
}

#endif

#ifdef ROPE
// Rotary embedding: x with heads of d elements, of which `dims` turn, and tables of cos and sin with dims / 2 in a row.
struct Rope {
    T* out;
    const T* x;
    const T* cos;
    const T* sin;
    const void* positions;
    u32* flag;
    u64 batch, heads, rows, d, dims;
    Strides at;
    // Rows of the tables; with positions, how many there are, else from one of the batch to the next.
    u64 table_rows, table_batch;
    u32 interleaved, wide_positions;
};
KERNEL(rope, Rope) {
    u64 number = thread_number();
    if (number >= p.batch * p.heads * p.rows * p.d) return;
    u64 x = number % p.d, rest = number / p.d;
    u64 head = rest % p.heads, row = rest / p.heads % p.rows, batch = rest / p.heads / p.rows;
    i64 at = i64(batch) * p.at.batch + i64(head) * p.at.head + i64(row) * p.at.row;
    if (x >= p.dims) {
        p.out[at + x] = p.x[at + x];
        return;
    }
    u64 half = p.dims / 2;
    u64 pair = p.interleaved ? x / 2 : x % half;
    bool second = p.interleaved ? x % 2 : x >= half;
    u64 one = p.interleaved ? pair * 2 : pair, other = p.interleaved ? pair * 2 + 1 : pair + half;
    u64 table = batch * p.table_batch + row;
    if (p.positions) {
        u64 which = batch * p.rows + row;
        i64 position = p.wide_positions ? static_cast<const i64*>(p.positions)[which] : i64(static_cast<const i32*>(p.positions)[which]);
        if (position < 0 || position >= i64(p.table_rows)) {
            *p.flag = 1;
            return;
        }
        table = u64(position);
    }
    W a = wide(p.x[at + one]), b = wide(p.x[at + other]);
    W c = wide(p.cos[table * half + pair]), s = wide(p.sin[table * half + pair]);
    p.out[at + x] = narrow<T>(second ? a * s + b * c : a * c - b * s);
}
#endif
