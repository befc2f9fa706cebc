"""MiniLM-L6 by the graph executor and by ONNX Runtime: batch 1 and 8, 32 and 128 tokens, 1 and 2 threads.

    cargo xtask models
    cargo build --release -p innkeeper-graph --example bench
    target/models-venv/bin/python benches/minilm.py
"""

import argparse

import numpy as np

import graphs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["kernels", "minilm-ts", "minilm-dynamo"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--lengths", nargs="+", type=int, default=[32, 128])
    chosen = graphs.arguments(parser)
    cells = [
        cell(model, batch, length, threads)
        for threads in chosen.threads
        for model in chosen.models
        for batch in chosen.batches
        for length in chosen.lengths
    ]
    graphs.run(cells, chosen)


def cell(model, batch, length, threads):
    """`kernels` is the network written by hand on the kernels, against ONNX Runtime on the traced graph."""
    file = "minilm-ts" if model == "kernels" else model
    cell = graphs.Cell(file, f"{batch} x {length}", tokens(batch, length), threads)
    if model == "kernels":
        cell.name, cell.ours = model, graphs.ROOT / "plugins/minilm/assets/weights.safetensors"
    return cell


def tokens(batch, length):
    ids = np.random.default_rng(7).integers(1000, 30000, (batch, length))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


if __name__ == "__main__":
    main()
