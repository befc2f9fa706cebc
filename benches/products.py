#!/usr/bin/env python3
"""FP32 products beside ONNX Runtime's: x [m,k] by a constant [k,n].

Both sides hold their constant packed, write into memory that they reuse, and are timed in turn, block by block, round
after round. A block's time is its shortest sample, because other work only ever adds to it; a ratio is the median of
the ratios within a round. With one thread the time is that for which the thread had a processor, with more it is that
on the clock. What a call costs before it multiplies anything (a session and its Python binding there, an operation and
its checks here) is measured on each side by a product of 1x1x1 in the same round and taken off that side's times; the
last two columns have it in.

    python3 -m venv target/peers/onnxruntime && target/peers/onnxruntime/bin/pip install onnxruntime==1.32.0 onnx numpy
    target/peers/onnxruntime/bin/python benches/products.py [--rounds 5] [--milliseconds 60] [--bench FILE]
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = [
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (1, 1000, 64),
    (32, 1000, 64),
    (1, 384, 1536),
    (128, 384, 1536),
]


def build():
    """The Rust side, built, as a path."""
    command = ["cargo", "build", "--release", "-p", "innkeeper-kernels", "--bench", "products", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "products")


class Ours:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        return None if answer == "missing" else float(answer)


class Peer:
    """A session of one MatMul whose right side is a constant, with its result bound."""

    def __init__(self, shape, threads):
        m, k, n = shape
        weight = numpy_helper.from_array(numpy.random.rand(k, n).astype(numpy.float32), "w")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        x = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.random.rand(m, k).astype(numpy.float32))
        y = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros((m, n), numpy.float32))
        self.held = (x, y)
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input("x", x)
        self.binding.bind_ortvalue_output("y", y)

    def block(self, milliseconds, threads):
        """The shortest time of one call in nanoseconds."""
        run, binding = self.session.run_with_iobinding, self.binding
        now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        run(binding)
        start = time.perf_counter_ns()
        run(binding)
        together = max(1, min(100, 20_000 // (time.perf_counter_ns() - start)))
        begin, best = time.perf_counter_ns(), float("inf")
        while time.perf_counter_ns() - begin < milliseconds * 1e6:
            start = now()
            for _ in range(together):
                run(binding)
            best = min(best, (now() - start) / together)
        return best


def measure(ours, threads, isa, rounds, milliseconds):
    """Prints a table for one number of threads."""
    peers = {shape: Peer(shape, threads) for shape in SHAPES + [(1, 1, 1)]}
    rows = {shape: [] for shape in SHAPES}
    peaks = {kind: 0.0 for kind in ("avx512", "avx2")}
    for _ in range(rounds):
        for kind in peaks:
            peaks[kind] = max(peaks[kind], ours.ask("peak", kind, threads, milliseconds) or 0.0)
        call = ours.ask("product", isa, threads, 1, 1, 1, milliseconds)
        peer_call = peers[(1, 1, 1)].block(milliseconds, threads)
        for shape in SHAPES:
            mine = ours.ask("product", isa, threads, *shape, milliseconds)
            theirs = peers[shape].block(milliseconds, threads)
            twin = ours.ask("product", "avx2", threads, *shape, milliseconds)
            rows[shape].append((mine - call, theirs - peer_call, mine, theirs, twin - call))
    print(f"\n{threads} thread(s): FMA peak {2 * peaks['avx512']:.0f} GFLOP/s by AVX-512, {2 * peaks['avx2']:.0f} by AVX2\n")
    print("| m x k x n | innkeeper us | ONNX Runtime us | speed ratio | GFLOP/s | of peak | AVX2 GFLOP/s | of its peak | innkeeper with its call us | ONNX Runtime with its call us |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for shape, samples in rows.items():
        work = 2.0 * shape[0] * shape[1] * shape[2]
        mine, theirs, mine_whole, theirs_whole, _ = (statistics.median(column) / 1e3 for column in zip(*samples))
        ratio = statistics.median(sample[1] / sample[0] for sample in samples)
        best, twin = (work / min(sample[column] for sample in samples) for column in (0, 4))
        print(
            f"| {'x'.join(map(str, shape))} | {mine:.1f} | {theirs:.1f} | {ratio:.2f} | {best:.0f} | {best / (2 * peaks[isa]):.2f} "
            f"| {twin:.0f} | {twin / (2 * peaks['avx2']):.2f} | {mine_whole:.1f} | {theirs_whole:.1f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--milliseconds", type=int, default=60, help="of one block")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--bench", help="the Rust side, if it is built already")
    arguments = parser.parse_args()
    ours = Ours(arguments.bench or build())
    isa = "avx512" if ours.ask("peak", "avx512", 1, 1) else "avx2"
    print(f"onnxruntime {onnxruntime.__version__}; instructions: {isa}; load {os.getloadavg()[0]:.1f}")
    for threads in arguments.threads:
        measure(ours, threads, isa, arguments.rounds, arguments.milliseconds)


if __name__ == "__main__":
    main()
