"""MiniLM-L6 by the graph executor and by ONNX Runtime: batch 1 and 8, 32 and 128 tokens, 1 and 2 threads.

    cargo xtask models
    cargo build --release -p innkeeper-graph --example bench
    target/models-venv/bin/python benches/minilm.py
"""

import argparse

import numpy as np

import graphs


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--models", nargs="+", default=["minilm-ts", "minilm-dynamo"])
    arguments.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    arguments.add_argument("--lengths", nargs="+", type=int, default=[32, 128])
    arguments.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    arguments.add_argument("--seconds", type=float, default=0.5)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--profile", action="store_true")
    chosen = arguments.parse_args()
    cells = [
        graphs.Cell(model, f"{batch} x {length}", tokens(batch, length), threads)
        for threads in chosen.threads
        for model in chosen.models
        for batch in chosen.batches
        for length in chosen.lengths
    ]
    graphs.run(cells, chosen.seconds, chosen.rounds, chosen.profile)


def tokens(batch, length):
    ids = np.random.default_rng(7).integers(1000, 30000, (batch, length))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


if __name__ == "__main__":
    main()
