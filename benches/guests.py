"""MiniLM-L6 in a guest, by each way to the host's kernels, beside the same kernels natively and ONNX Runtime.

    cargo xtask models
    cargo build --release --workspace
    target/release/innkeeper build benches/guests/minilm
    target/models-venv/bin/python benches/guests.py

Batch 1 and 8, 32 and 128 tokens, 1 and 2 threads. Token ids go in, so that no tokeniser is measured. All sides take turns
within a round; a ratio is the median of the ratios within the rounds, and below 1 the first one is faster.
"""

import argparse
import statistics
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import graphs
import minilm

GUEST = graphs.ROOT / "benches/guests/minilm"
PATHS = ["nn", "graph", "tensors", "native"]


class Guests(graphs.Executor):
    """The program `guests` of this folder's crate."""

    def __init__(self, chosen, folder):
        component = Path(folder) / "component.wasm"
        with tarfile.open(chosen.bundle) as bundle:
            component.write_bytes(bundle.extractfile("component.wasm").read())
        command = [chosen.program, component, chosen.onnx, chosen.weights]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def took(self, path, cell, chosen):
        words = [path, cell.file, cell.threads, int(chosen.seconds * 1000)]
        return float(self.ask("cpu" if chosen.cpu else "time", *words))

    def check(self, path, cell):
        return float(self.ask("check", path, cell.file, cell.threads))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--lengths", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=PATHS)
    parser.add_argument("--program", default=graphs.TARGET / "release/guests")
    parser.add_argument("--bundle", default=GUEST / "minilm-paths.bundle")
    parser.add_argument("--onnx", default=graphs.MODELS / "minilm-ts.onnx")
    weights = graphs.ROOT / "plugins/minilm/assets/weights.safetensors"
    parser.add_argument("--weights", default=weights)
    chosen = graphs.arguments(parser)
    cells = [
        graphs.Cell("minilm-ts", f"{batch} x {length}", minilm.tokens(batch, length), threads)
        for threads in chosen.threads
        for batch in chosen.batches
        for length in chosen.lengths
    ]
    with tempfile.TemporaryDirectory() as folder:
        run(cells, chosen, Guests(chosen, folder), graphs.OnnxRuntime())


def run(cells, chosen, guests, peer):
    columns = ["input", "threads", "ONNX Runtime us", *(f"{path} us" for path in chosen.paths)]
    columns += [f"{path} / ONNX Runtime" for path in chosen.paths]
    columns += ["tensors / native", "largest error"]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for cell in cells:
        cell.write(peer)
        error = max(guests.check(path, cell) for path in chosen.paths)
        rounds = [one_round(number, cell, chosen, guests, peer) for number in range(chosen.rounds)]
        middle = lambda of: statistics.median(of(took) for took in rounds)
        row = [cell.label, cell.threads, f"{middle(lambda took: took['peer']):,.0f}"]
        row += [f"{middle(lambda took: took[path]):,.0f}" for path in chosen.paths]
        row += [f"{middle(lambda took: took[path] / took['peer']):.3f}" for path in chosen.paths]
        both = {"tensors", "native"} <= set(chosen.paths)
        row += [f"{middle(lambda took: took['tensors'] / took['native']):.3f}" if both else ""]
        print("| " + " | ".join(map(str, [*row, f"{error:.1e}"])) + " |", flush=True)


def one_round(number, cell, chosen, guests, peer):
    """What each side takes; who begins changes from round to round."""
    sides = ["peer", *chosen.paths]
    turn = number % len(sides)
    took = {}
    for side in sides[turn:] + sides[:turn]:
        if side == "peer":
            measure = peer.cpu if chosen.cpu else peer.time
            took[side] = measure(cell, chosen.seconds)
        else:
            took[side] = guests.took(side, cell, chosen)
        time.sleep(graphs.PAUSE)
    return took


if __name__ == "__main__":
    main()
