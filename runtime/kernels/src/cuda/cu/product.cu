// Products in FP32 and FP64 by ordinary multiply-adds, where no library is: a block makes TILE x TILE sums, a thread
// 4 x 4 of them.

typedef As<T>::Wide W;
#define TILE 64
#define DEEP 16

KERNEL_OF(256, product, Product) {
    __shared__ W left[DEEP][TILE + 4];
    __shared__ W right[DEEP][TILE + 4];
    u64 across = (p.n + TILE - 1) / TILE;
    u64 top = u64(blockIdx.x) / across * TILE, side = u64(blockIdx.x) % across * TILE;
    u32 y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
    for (u64 batch = blockIdx.y; batch < p.batch; batch += gridDim.y) {
        const T* a = p.a + i64(batch) * p.a_batch;
        const T* b = p.b + i64(batch) * p.b_batch;
        W sums[4][4] = {};
        for (u64 begin = 0; begin < p.k; begin += DEEP) {
            for (u32 i = threadIdx.x; i < TILE * DEEP; i += 256) {
                // Neighbours read what lies side by side, whichever way the operand is turned.
                u32 k = p.a_column == 1 ? i % DEEP : i / TILE, row = p.a_column == 1 ? i / DEEP : i % TILE;
                bool inside = top + row < p.m && begin + k < p.k;
                left[k][row] = inside ? wide(a[i64(top + row) * p.a_row + i64(begin + k) * p.a_column]) : W(0);
                k = p.b_row == 1 ? i % DEEP : i / TILE;
                u32 column = p.b_row == 1 ? i / DEEP : i % TILE;
                inside = side + column < p.n && begin + k < p.k;
                right[k][column] = inside ? wide(b[i64(begin + k) * p.b_row + i64(side + column) * p.b_column]) : W(0);
            }
            __syncthreads();
#pragma unroll
            for (u32 k = 0; k < DEEP; k++) {
                W u[4], v[4];
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    u[i] = left[k][y + i];
                    v[i] = right[k][x + i];
                }
#pragma unroll
                for (u32 i = 0; i < 4; i++)
#pragma unroll
                    for (u32 j = 0; j < 4; j++) sums[i][j] += u[i] * v[j];
            }
            __syncthreads();
        }
#pragma unroll
        for (u32 i = 0; i < 4; i++)
#pragma unroll
            for (u32 j = 0; j < 4; j++)
                if (top + y + i < p.m && side + x + j < p.n) finish(p, batch, top + y + i, side + x + j, sums[i][j]);
    }
}

// What a library's product could not do as it wrote: bias, residual and activation, in place.
KERNEL(epilogue, Product) {
    u64 number = thread_number();
    if (number >= p.batch * p.m * p.n) return;
    u64 column = number % p.n, row = number / p.n % p.m;
    finish(p, number / p.n / p.m, row, column, wide(p.c[number]));
}
