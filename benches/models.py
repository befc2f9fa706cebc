"""Convolutional networks, trees, a small GPT and an MLP by the graph executor and by ONNX Runtime, batch 1 and 32.

    cargo xtask models
    cargo build --release -p innkeeper-graph --example bench
    target/models-venv/bin/python benches/models.py
"""

import argparse

import numpy as np

import graphs

RANDOM = np.random.default_rng(7)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def pixels(batch):
    return RANDOM.integers(0, 17, (batch, 64)).astype(np.float32)


# What a batch of a model's inputs is, and the batches that are measured.
MODELS = {
    "mlp-ts": (lambda batch: {"x": floats(batch, 1000)}, (1, 32)),
    "digits-forest": (lambda batch: {"X": pixels(batch)}, (1, 32)),
    "digits-boosting": (lambda batch: {"X": pixels(batch)}, (1, 32)),
    "digits-logistic": (lambda batch: {"X": pixels(batch)}, (1, 32)),
    "digits-pipeline": (lambda batch: {"X": pixels(batch)}, (1, 32)),
    "resnet-ts": (lambda batch: {"image": floats(batch, 3, 224, 224)}, (1, 8)),
    "mobilenet-ts": (lambda batch: {"image": floats(batch, 3, 128, 128)}, (1, 8)),
    "gpt-ts": (lambda batch: {"ids": RANDOM.integers(0, 1000, (batch, 64))}, (1, 8)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    chosen = graphs.arguments(parser)
    cells = [
        graphs.Cell(name, f"batch {batch}", MODELS[name][0](batch), threads)
        for threads in chosen.threads
        for name in chosen.models
        for batch in MODELS[name][1]
    ]
    graphs.run(cells, chosen)


if __name__ == "__main__":
    main()
