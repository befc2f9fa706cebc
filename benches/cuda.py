#!/usr/bin/env python3
"""Operations on a GPU beside PyTorch's, in one run. It needs a GPU, a driver of CUDA 13.0 or later, PyTorch with CUDA,
and NVRTC and cuBLASLt where the system finds libraries (LD_LIBRARY_PATH). Not yet run: no GPU was there.

    cargo build --release -p innkeeper-kernels --features cuda --example cuda
    python3 benches/cuda.py target/release/examples/cuda
"""

import json
import statistics
import subprocess
import sys

import torch

WARM, CALLS, ROUNDS = 3, 20, 5
# Bytes that are read and written, for the share of the measured copy's bandwidth.
LARGE = 16384 * 4096 * 4
TRAFFIC = {"copy": 2 * LARGE, "add": 3 * LARGE, "layer-norm": 2 * LARGE, "softmax": 2 * LARGE}
# What the ratio to PyTorch (its time over ours), or to the copy's bandwidth, is to be at least.
WANTED = {"product-BF16": 0.95, "add": 0.8, "layer-norm": 0.8, "softmax": 0.8}


def peers():
    device = torch.device("cuda:0")
    large = torch.full((16384, 4096), 0.5, device=device)
    scale = torch.full((4096,), 0.5, device=device)
    yield "copy", large.clone
    yield "add", lambda: large + large
    yield "layer-norm", lambda: torch.nn.functional.layer_norm(large, (4096,), scale, scale)
    yield "softmax", lambda: torch.softmax(large, -1)
    for name, dtype in [("product-FP32", torch.float32), ("product-BF16", torch.bfloat16)]:
        square = torch.full((8192, 8192), 0.5, device=device, dtype=dtype)
        yield name, lambda square=square: torch.nn.functional.linear(square, square)
    packed = torch.full((8, 2048, 3, 16, 64), 0.5, device=device, dtype=torch.bfloat16)
    q, k, v = (packed[:, :, i].transpose(1, 2) for i in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    yield "attention-BF16", lambda: attend(q, k, v, is_causal=True)


def microseconds(work):
    for _ in range(WARM):
        work()
    rounds = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(CALLS):
            work()
        end.record()
        torch.cuda.synchronize()
        rounds.append(begin.elapsed_time(end) * 1000 / CALLS)
    return statistics.median(rounds)


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    lines = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout
    ours = [json.loads(line) for line in lines.splitlines()]
    print(ours[0]["device"])
    ours = {line["name"]: line for line in ours[1:]}
    theirs = {name: microseconds(work) for name, work in peers()}
    copy = TRAFFIC["copy"] / ours["copy"]["microseconds"]
    print(f"{'operation':16} {'ours us':>10} {'PyTorch us':>10} {'ratio':>6} {'of copy':>8} wanted")
    for name, line in ours.items():
        if "error" in line:
            print(f"{name:16} {line['error']}")
            continue
        time = line["microseconds"]
        share = f"{TRAFFIC[name] / time / copy:8.2f}" if name in TRAFFIC else " " * 8
        wanted = WANTED.get(name, "")
        print(f"{name:16} {time:10.1f} {theirs[name]:10.1f} {theirs[name] / time:6.2f} {share} {wanted}")


if __name__ == "__main__":
    main()
