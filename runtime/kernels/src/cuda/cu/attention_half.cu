// Attention of 16-bit floats on the tensor cores: a block of four warps has 64 queries of one head, a warp 16 of them, and
// goes over the keys in tiles of 64. The scores' fragments are the weights' fragments of the second product, so that they
// never leave registers. D is the length of q, k and v, a multiple of 16.

#define QUERIES 64
#define KEYS 64
#define PITCH (D + 8)
#define PITCH_V (KEYS + 8)

struct Strides {
    i64 batch, head, row;
};
// As in attention.cu.
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
    u32 causal, mask_is_bool;
    u64 batch;
};

DEVICE float masked(const Attention& p, float score, u64 batch, u64 head, u64 query, u64 key) {
    if (p.causal && i64(key) > i64(query) + i64(p.keys) - i64(p.queries)) return Extreme<float>::lowest();
    if (!p.mask) return score;
    i64 at = i64(batch) * p.mask_batch + i64(head) * p.mask_head + i64(query) * p.mask_row + i64(key) * p.mask_key;
    if (p.mask_is_bool) return static_cast<const u8*>(p.mask)[at] ? score : Extreme<float>::lowest();
    return score + wide(static_cast<const T*>(p.mask)[at]);
}

// Over the four threads that have one row of a fragment.
DEVICE float row_top(float x) {
    x = larger(x, __shfl_xor_sync(WHOLE_WARP, x, 1));
    return larger(x, __shfl_xor_sync(WHOLE_WARP, x, 2));
}
DEVICE float row_sum(float x) {
    x += __shfl_xor_sync(WHOLE_WARP, x, 1);
    return x + __shfl_xor_sync(WHOLE_WARP, x, 2);
}

KERNEL_OF(128, attention, Attention) {
    DYNAMIC_SHARED(u16, room);
    u16* q = room;
    u16* k = q + QUERIES * PITCH;
    // Turned, so that two keys of one column lie side by side, as fragments want them.
    u16* v = k + KEYS * PITCH;
    u64 first = u64(blockIdx.x) * QUERIES;
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, group = lane / 4, pairs = lane % 4 * 2;
    for (u64 both = blockIdx.y; both < p.batch * p.heads; both += gridDim.y) {
        u64 batch = both / p.heads, head = both % p.heads;
        const T* from_q = p.q + i64(batch) * p.at_q.batch + i64(head) * p.at_q.head;
        const T* from_k = p.k + i64(batch) * p.at_k.batch + i64(head / p.group) * p.at_k.head;
        const T* from_v = p.v + i64(batch) * p.at_v.batch + i64(head / p.group) * p.at_v.head;
        for (u32 i = threadIdx.x; i < QUERIES * D; i += 128) {
            u32 y = i / D, x = i % D;
            q[y * PITCH + x] = first + y < p.queries ? from_q[i64(first + y) * p.at_q.row + x].bits : u16(0);
        }
        __syncthreads();
        u32 queries[D / 16][4];
#pragma unroll
        for (u32 i = 0; i < D / 16; i++) {
            const u16* row = q + (warp * 16 + group) * PITCH + i * 16 + pairs;
            queries[i][0] = pair(row);
            queries[i][1] = pair(row + 8 * PITCH);
            queries[i][2] = pair(row + 8);
            queries[i][3] = pair(row + 8 * PITCH + 8);
        }
        // A thread has two rows of each fragment: `group`, and 8 further down.
        float top[2] = {Extreme<float>::lowest(), Extreme<float>::lowest()}, sum[2] = {0.0f, 0.0f};
        float result[D / 8][4] = {};
        i64 end = i64(p.keys);
        if (p.causal) {
            i64 last = i64(first) + QUERIES + i64(p.keys) - i64(p.queries);
            if (last < end) end = last;
        }
        for (i64 begin = 0; begin < end; begin += KEYS) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < KEYS * D; i += 128) {
                u32 y = i / D, x = i % D;
                bool inside = begin + y < i64(p.keys);
                k[y * PITCH + x] = inside ? from_k[(begin + y) * p.at_k.row + x].bits : u16(0);
                v[x * PITCH_V + y] = inside ? from_v[(begin + y) * p.at_v.row + x].bits : u16(0);
            }
            __syncthreads();
            float scores[KEYS / 8][4] = {};
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; j++) {
#pragma unroll
                for (u32 i = 0; i < D / 16; i++) {
                    const u16* key = k + (j * 8 + group) * PITCH + i * 16 + pairs;
                    u32 keys[2] = {pair(key), pair(key + 8)};
                    MMA(scores[j], queries[i], keys);
                }
            }
            float high[2] = {Extreme<float>::lowest(), Extreme<float>::lowest()};
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (u32 r = 0; r < 4; r++) {
                    u64 query = first + warp * 16 + group + r / 2 * 8;
                    u64 key = u64(begin) + j * 8 + pairs + r % 2;
                    bool inside = query < p.queries && key < p.keys;
                    float score = scores[j][r] * float(p.scale);
                    score = inside ? masked(p, score, batch, head, query, key) : Extreme<float>::lowest();
                    scores[j][r] = score;
                    high[r / 2] = larger(high[r / 2], score);
                }
            float shrink[2];
            bool any[2];
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                float next = larger(top[half], row_top(high[half]));
                any[half] = next != Extreme<float>::lowest();
                shrink[half] = any[half] ? exp(top[half] - next) : 1.0f;
                top[half] = next;
                sum[half] *= shrink[half];
            }
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (u32 r = 0; r < 4; r++) {
                    float weight = any[r / 2] ? exp(scores[j][r] - top[r / 2]) : 0.0f;
                    scores[j][r] = weight;
                    sum[r / 2] += weight;
                }
#pragma unroll
            for (u32 i = 0; i < D / 8; i++)
#pragma unroll
                for (u32 r = 0; r < 4; r++) result[i][r] *= shrink[r / 2];
#pragma unroll
            for (u32 j = 0; j < KEYS / 16; j++) {
                u32 weights[4] = {
                    packed(scores[2 * j][0], scores[2 * j][1]),
                    packed(scores[2 * j][2], scores[2 * j][3]),
                    packed(scores[2 * j + 1][0], scores[2 * j + 1][1]),
                    packed(scores[2 * j + 1][2], scores[2 * j + 1][3]),
                };
#pragma unroll
                for (u32 i = 0; i < D / 8; i++) {
                    const u16* column = v + (i * 8 + group) * PITCH_V + j * 16 + pairs;
                    u32 values[2] = {pair(column), pair(column + 8)};
                    MMA(result[i], weights, values);
                }
            }
        }
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float all = row_sum(sum[half]);
            u64 query = first + warp * 16 + group + half * 8;
            if (query < p.queries) {
                T* to = p.out + i64(batch) * p.at_out.batch + i64(head) * p.at_out.head + i64(query) * p.at_out.row;
                float factor = all == 0.0f ? 0.0f : 1.0f / all;
#pragma unroll
                for (u32 i = 0; i < D / 8; i++)
#pragma unroll
                    for (u32 r = 0; r < 2; r++)
                        to[i * 8 + pairs + r] = narrow<T>(result[i][half * 2 + r] * factor);
            }
        }
        __syncthreads();
    }
}
