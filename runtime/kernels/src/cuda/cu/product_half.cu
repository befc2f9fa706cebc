// Products of 16-bit floats on the tensor cores with sums in FP32, where no library is: a block of four warps makes
// 64 x 64 sums, a warp 32 x 32 of them.

#define TILE 64
#define DEEP 32
// Rows are padded so that a warp's reads of fragments fall into different banks.
#define PITCH (DEEP + 8)

KERNEL_OF(128, product, Product) {
    __shared__ __align__(16) u16 left[TILE][PITCH];
    __shared__ __align__(16) u16 right[TILE][PITCH];
    u64 across = (p.n + TILE - 1) / TILE;
    u64 top = u64(blockIdx.x) / across * TILE, side = u64(blockIdx.x) % across * TILE;
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u32 y = warp / 2 * 32, x = warp % 2 * 32, group = lane / 4, pairs = lane % 4 * 2;
    for (u64 batch = blockIdx.y; batch < p.batch; batch += gridDim.y) {
        const T* a = p.a + i64(batch) * p.a_batch;
        const T* b = p.b + i64(batch) * p.b_batch;
        float sums[2][4][4] = {};
        for (u64 begin = 0; begin < p.k; begin += DEEP) {
            for (u32 i = threadIdx.x; i < TILE * DEEP; i += 128) {
                u32 k = p.a_column == 1 ? i % DEEP : i / TILE, row = p.a_column == 1 ? i / DEEP : i % TILE;
                bool inside = top + row < p.m && begin + k < p.k;
                left[row][k] = inside ? a[i64(top + row) * p.a_row + i64(begin + k) * p.a_column].bits : u16(0);
                k = p.b_row == 1 ? i % DEEP : i / TILE;
                u32 column = p.b_row == 1 ? i / DEEP : i % TILE;
                inside = side + column < p.n && begin + k < p.k;
                right[column][k] = inside ? b[i64(begin + k) * p.b_row + i64(side + column) * p.b_column].bits : u16(0);
            }
            __syncthreads();
#pragma unroll
            for (u32 k = 0; k < DEEP; k += 16) {
                u32 u[2][4], v[4][2];
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    const u16* row = &left[y + i * 16 + group][k + pairs];
                    u[i][0] = pair(row);
                    u[i][1] = pair(row + 8 * PITCH);
                    u[i][2] = pair(row + 8);
                    u[i][3] = pair(row + 8 * PITCH + 8);
                }
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    const u16* column = &right[x + j * 8 + group][k + pairs];
                    v[j][0] = pair(column);
                    v[j][1] = pair(column + 8);
                }
#pragma unroll
                for (u32 i = 0; i < 2; i++)
#pragma unroll
                    for (u32 j = 0; j < 4; j++) MMA(sums[i][j], u[i], v[j]);
            }
            __syncthreads();
        }
#pragma unroll
        for (u32 i = 0; i < 2; i++)
#pragma unroll
            for (u32 j = 0; j < 4; j++)
#pragma unroll
                for (u32 r = 0; r < 4; r++) {
                    u64 row = top + y + i * 16 + group + r / 2 * 8, column = side + x + j * 8 + pairs + r % 2;
                    if (row < p.m && column < p.n) finish(p, batch, row, column, sums[i][j][r]);
                }
    }
}
