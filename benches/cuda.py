#!/usr/bin/env python3
"""Everything that is wanted of the speed on a GPU, in one call: operations beside PyTorch's and as a share of the measured
copy's bandwidth, and MiniLM at batch 64 with 128 tokens beside PyTorch and ONNX Runtime. It builds what it needs, says
what is missing, and prints the tables. Not yet run on a GPU: none was there.

    cargo xtask models
    target/models-venv/bin/pip install torch onnxruntime-gpu nvidia-cuda-nvrtc nvidia-cublas
    target/models-venv/bin/python benches/cuda.py

It wants a GPU and a driver of CUDA 13.0 or later, which nothing here installs. With --prepare it builds, says what is
missing, and times nothing.
"""

import argparse
import ctypes
import glob
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
MODELS = Path(os.environ.get("INNKEEPER_TEST_MODELS", TARGET / "models"))
WEIGHTS = ROOT / "plugins/minilm/assets/weights.safetensors"
ONNX = MODELS / "minilm-ts.onnx"

WARM, CALLS, ROUNDS = 3, 20, 5
BATCH, LENGTH = 64, 128
# Bytes that are read and written, for the share of the measured copy's bandwidth.
LARGE = 16384 * 4096 * 4
TRAFFIC = {"copy": 2 * LARGE, "add": 3 * LARGE, "layer-norm": 2 * LARGE, "softmax": 2 * LARGE}
# What the ratio to PyTorch (its time over ours), or to the copy's bandwidth, is to be at least.
WANTED = {"product-BF16": 0.95, "add": 0.8, "layer-norm": 0.8, "softmax": 0.8}


def library_folders():
    """Where PyPI's packages of NVIDIA put NVRTC and cuBLASLt."""
    found = []
    for folder in sys.path:
        for library in glob.glob(f"{folder}/nvidia/**/lib*.so*", recursive=True):
            found.append(str(Path(library).parent))
    return sorted(set(found))


def has_library(name):
    for folder in [*library_folders(), ""]:
        try:
            ctypes.CDLL(os.path.join(folder, name))
            return True
        except OSError:
            pass
    return False


def missing():
    """What is not there, each with what it is for; the first group stops everything."""
    needed, useful = [], []
    if not has_library("libcuda.so.1"):
        needed.append("libcuda.so.1: a GPU's driver, of CUDA 13.0 or later")
    if not has_library("libnvrtc.so.13"):
        needed.append("libnvrtc.so.13, which compiles kernels: pip install nvidia-cuda-nvrtc")
    if importlib.util.find_spec("torch") is None:
        needed.append("PyTorch: pip install torch")
    else:
        import torch

        if not torch.cuda.is_available():
            needed.append(f"a PyTorch {torch.__version__} that sees a GPU: pip install torch")
    if not has_library("libcublasLt.so.13"):
        useful.append("libcublasLt.so.13: products are our own kernels' then; pip install nvidia-cublas")
    if importlib.util.find_spec("onnxruntime") is None:
        useful.append("ONNX Runtime: pip install onnxruntime-gpu")
    else:
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            useful.append("an ONNX Runtime with CUDA: pip install onnxruntime-gpu")
    for path in (ONNX, WEIGHTS):
        if not path.is_file():
            useful.append(f"{path}, for MiniLM: cargo xtask models")
    return needed, useful


def build():
    for package, example in (("innkeeper-kernels", "cuda"), ("innkeeper-graph", "bench")):
        command = ["cargo", "build", "--release", "--locked", "--features", "cuda"]
        subprocess.run([*command, "-p", package, "--example", example], check=True, cwd=ROOT)


def environment():
    folders = [*library_folders(), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder)}


def example(name):
    return TARGET / "release/examples" / name


def peers(torch):
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


def microseconds(torch, work):
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


def operations(torch):
    program = [example("cuda")]
    lines = subprocess.run(program, check=True, capture_output=True, text=True, env=environment())
    ours = [json.loads(line) for line in lines.stdout.splitlines()]
    print(ours[0]["device"])
    ours = {line["name"]: line for line in ours[1:]}
    theirs = {name: microseconds(torch, work) for name, work in peers(torch)}
    copy = TRAFFIC["copy"] / ours["copy"]["microseconds"]
    print(f"{'operation':16} {'ours us':>10} {'PyTorch us':>10} {'ratio':>6} {'of copy':>8} wanted")
    for name, line in ours.items():
        if "error" in line:
            print(f"{name:16} {line['error']}")
            continue
        micros = line["microseconds"]
        share = f"{TRAFFIC[name] / micros / copy:8.2f}" if name in TRAFFIC else " " * 8
        wanted = WANTED.get(name, "")
        ratio = theirs[name] / micros
        print(f"{name:16} {micros:10.1f} {theirs[name]:10.1f} {ratio:6.2f} {share} {wanted}")


def tokens():
    import numpy

    ids = numpy.random.default_rng(7).integers(1000, 30000, (BATCH, LENGTH))
    inputs = {"input_ids": ids, "attention_mask": numpy.ones_like(ids)}
    return inputs | {"token_type_ids": numpy.zeros_like(ids)}


def median(work, seconds=2.0):
    """Microseconds of a call that waits for its result."""
    for _ in range(WARM):
        work()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)


def minilm_ours(inputs, model):
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs.safetensors"
        save_file({f"input.{name}": value for name, value in inputs.items()}, file)
        command = f"time\t{model}\t{file}\t1\t2000\n"
        driver = subprocess.run(
            [example("bench"), "cuda:0"], input=command, capture_output=True, text=True, env=environment()
        )
    if driver.returncode != 0:
        return None, driver.stderr.strip().splitlines()[-1]
    return float(driver.stdout), None


def minilm_pytorch(torch, inputs):
    sys.path.insert(0, str(ROOT / "tests/models"))
    from minilm import Bert

    net = Bert().eval().to("cuda:0")
    given = [torch.from_numpy(value) for value in inputs.values()]

    def call():
        with torch.no_grad():
            net(*(value.to("cuda:0") for value in given)).cpu()

    return median(call)


def minilm_onnxruntime(inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(ONNX), providers=["CUDAExecutionProvider"])
    return median(lambda: session.run(None, inputs))


def minilm(torch, has_onnxruntime):
    """Inputs start and outputs end on the host, on every side."""
    inputs = tokens()
    print(f"\nMiniLM, FP32, batch {BATCH}, {LENGTH} tokens: throughput is to be at least each of the others'")
    rows = [("PyTorch", minilm_pytorch(torch, inputs), None)]
    if has_onnxruntime:
        rows.append(("ONNX Runtime", minilm_onnxruntime(inputs), None))
    rows.append(("Innkeeper, ONNX file", *minilm_ours(inputs, ONNX)))
    rows.append(("Innkeeper, by hand", *minilm_ours(inputs, WEIGHTS)))
    for name, micros, problem in rows:
        said = problem or f"{micros:12.0f} us {BATCH * 1e6 / micros:10.0f} sentences/s"
        print(f"{name:22} {said}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepare", action="store_true", help="build, and say what is missing")
    chosen = parser.parse_args()
    build()
    needed, useful = missing()
    for text in [*needed, *useful]:
        print("missing:", text)
    if needed:
        raise SystemExit("nothing was timed")
    if chosen.prepare:
        return
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    operations(torch)
    if ONNX.is_file() and WEIGHTS.is_file():
        minilm(torch, not any("ONNX Runtime" in text for text in useful))


if __name__ == "__main__":
    main()
