#!/usr/bin/env python3
"""FP32 convolutions beside ONNX Runtime's: NCHW, constant weights, bias and ReLU, the layers of ResNet-18 and MobileNetV2.

Both sides are timed in turn, round after round; a time is the shortest sample, because other work only ever adds to it,
and a ratio is the median of the ratios within a round. ONNX Runtime's times are whole runs of a session with its input
and result bound, and its layout transform (NCHWc) included where it chooses one.

    python3 -m venv target/peers/onnxruntime && target/peers/onnxruntime/bin/pip install onnxruntime==1.32.0 onnx numpy
    target/peers/onnxruntime/bin/python benches/layers.py [--rounds 3] [--milliseconds 60] [--bench FILE]
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import numpy
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Seconds for which one side's threads may spin after a block, before they would disturb the other side.
PAUSE = 0.03
# Batch, channels, size, filters, kernel, stride, pad, groups.
LAYERS = [
    (1, 3, 224, 64, 7, 2, 3, 1),
    (1, 64, 56, 64, 3, 1, 1, 1),
    (1, 128, 28, 128, 3, 1, 1, 1),
    (1, 256, 14, 256, 3, 1, 1, 1),
    (1, 512, 7, 512, 3, 1, 1, 1),
    (1, 64, 56, 128, 1, 2, 0, 1),
    (1, 96, 56, 24, 1, 1, 0, 1),
    (1, 576, 14, 96, 1, 1, 0, 1),
    (1, 96, 112, 96, 3, 2, 1, 96),
    (1, 144, 56, 144, 3, 1, 1, 144),
    (1, 576, 14, 576, 3, 1, 1, 576),
]


def build():
    """The Rust side, built, as a path."""
    command = ["cargo", "build", "--release", "-p", "innkeeper-kernels", "--bench", "layers", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "layers")


class Peer:
    """A session of one Conv and a Relu."""

    def __init__(self, layer, threads):
        n, c, size, m, kernel, stride, pad, groups = layer
        random = numpy.random.default_rng(1)
        weight = random.standard_normal((m, c // groups, kernel, kernel), dtype=numpy.float32)
        bias = random.standard_normal(m, dtype=numpy.float32)
        out = (size + 2 * pad - kernel) // stride + 1
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["s"], strides=[stride] * 2, pads=[pad] * 4, group=groups),
            helper.make_node("Relu", ["s"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [n, c, size, size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [n, m, out, out])],
            [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        x = random.standard_normal((n, c, size, size), dtype=numpy.float32)
        binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
        y = numpy.zeros((n, m, out, out), dtype=numpy.float32)
        binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(y))
        self.once = lambda: session.run_with_iobinding(binding)
        self.once()

    def time(self, milliseconds):
        end, best = time.perf_counter() + milliseconds / 1e3, float("inf")
        while time.perf_counter() < end:
            start = time.perf_counter_ns()
            self.once()
            best = min(best, time.perf_counter_ns() - start)
        return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--milliseconds", type=int, default=60)
    parser.add_argument("--bench")
    arguments = parser.parse_args()
    ours = subprocess.Popen([arguments.bench or build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print("n c size m kernel stride pad groups | threads | ours ms | GFLOP/s | ONNX Runtime / ours")
    for threads in (1, 2):
        for layer in LAYERS:
            peer = Peer(layer, threads)
            n, c, size, m, kernel, stride, pad, groups = layer
            out = (size + 2 * pad - kernel) // stride + 1
            work = 2 * n * m * out * out * c // groups * kernel * kernel
            ratios, best = [], float("inf")
            for _ in range(arguments.rounds):
                words = ["conv", threads, *layer, arguments.milliseconds]
                ours.stdin.write(" ".join(map(str, words)) + "\n")
                ours.stdin.flush()
                own = float(ours.stdout.readline())
                time.sleep(PAUSE)
                ratios.append(peer.time(arguments.milliseconds) / own)
                time.sleep(PAUSE)
                best = min(best, own)
            print(*layer, "|", threads, f"| {best / 1e6:.3f} | {work / best:.0f} | {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
