#!/usr/bin/env python3
"""FP32 products beside ONNX Runtime's: x [m,k] by a constant [k,n].

Both sides hold their constant packed, write into memory that they reuse, and are timed in turn, block by block, round
after round. A block's time is its shortest sample, because other work only ever adds to it; a ratio is the median of
the ratios within a round. With one thread the time is that for which the thread had a processor, with more it is that
on the clock. Times and the first ratio are what a caller sees, with the cost of a call on both sides: an operation and
its checks here, a session and its Python binding there. What a product of 1x1x1 takes in the same round is taken off
either side for the second ratio.

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
# Seconds for which one side's threads may spin after a block, before they would disturb the other side.
PAUSE = 0.03
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
    mine = lambda shape, isa=isa: settled(ours.ask("product", isa, threads, *shape, milliseconds))
    theirs = lambda shape: settled(peers[shape].block(milliseconds, threads))
    for _ in range(rounds):
        for kind in peaks:
            peaks[kind] = max(peaks[kind], ours.ask("peak", kind, threads, milliseconds) or 0.0)
        calls = mine((1, 1, 1)), theirs((1, 1, 1))
        for shape in SHAPES:
            twin = mine(shape, "avx2") if isa != "avx2" else None
            rows[shape].append((mine(shape), theirs(shape), twin, *calls))
    flop = {kind: 2 * peak for kind, peak in peaks.items() if peak}
    print(f"\n{threads} thread(s): FMA peak " + ", ".join(f"{peak:.0f} GFLOP/s by {kind}" for kind, peak in flop.items()) + "\n")
    twin = " AVX2 GFLOP/s | of its peak |" if isa != "avx2" else ""
    print("| m x k x n | innkeeper us | ONNX Runtime us | speed ratio | without either's call | GFLOP/s | of peak |" + twin)
    print("|---|---|---|---|---|---|---|" + "---|" * twin.count(" |"))
    for shape, samples in rows.items():
        work = 2.0 * shape[0] * shape[1] * shape[2]
        us = [statistics.median(column) / 1e3 for column in list(zip(*samples))[:2]]
        ratio = statistics.median(theirs / mine for mine, theirs, *_ in samples)
        bare = statistics.median((theirs - c) / (mine - b) for mine, theirs, _, b, c in samples)
        best = work / min(sample[0] for sample in samples)
        line = f"| {'x'.join(map(str, shape))} | {us[0]:.1f} | {us[1]:.1f} | {ratio:.2f} | {bare:.2f} | {best:.0f} | {best / flop[isa]:.2f} |"
        if twin:
            best = work / min(sample[2] for sample in samples)
            line += f" {best:.0f} | {best / flop['avx2']:.2f} |"
        print(line, flush=True)


def settled(answer):
    """The answer, after the time for which a side's threads may wait for more work on the processors."""
    time.sleep(PAUSE)
    return answer


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
