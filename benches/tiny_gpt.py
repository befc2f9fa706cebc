"""Times a training step of tiny-gpt as a job, against the same network in PyTorch, eager.

    innkeeper serve --dev --data DIR                        # in another terminal
    innkeeper build plugins/tiny-gpt && innkeeper push plugins/tiny-gpt/tiny-gpt.bundle --alias stable
    pip install torch numpy
    python benches/tiny_gpt.py [--url http://127.0.0.1:8000] [--rounds 3]

AdamW (fused), gradients clipped to norm 1, cross-entropy over all bytes; every side on all cores, in turn within a round. What is
printed are medians of milliseconds per step, and medians of the ratios within a round.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jobs import call

ROOT = Path(__file__).resolve().parent.parent
SIZES = [
    {"width": 64, "layers": 2, "heads": 4, "context": 64, "batch_size": 16},
    {"width": 128, "layers": 4, "heads": 4, "context": 128, "batch_size": 16},
    {"width": 256, "layers": 4, "heads": 8, "context": 128, "batch_size": 8},
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for size in SIZES:
        sides = {"job": Job(arguments.url, size), "pytorch": PyTorch(size)}
        for side in sides.values():
            side.step()
        rounds = [{name: side.step() for name, side in sides.items()} for _ in range(arguments.rounds)]
        times = {name: statistics.median(round[name] for round in rounds) * 1e3 for name in sides}
        ratio = statistics.median(round["pytorch"] / round["job"] for round in rounds)
        print(f"{size}: job {times['job']:.2f} ms, PyTorch {times['pytorch']:.2f} ms, {ratio:.2f} times the job's", flush=True)


class Job:
    """Texts of random letters, longer than the context, so that every place has a next byte."""

    STEPS = 150

    def __init__(self, url, size):
        self.url, self.size, self.number = url, size, time.time_ns()
        chance = np.random.default_rng(0)
        rows = self.STEPS * size["batch_size"]
        letters = chance.integers(97, 123, (rows, size["context"] + 8), dtype=np.uint8)
        lines = [json.dumps({"text": row.tobytes().decode()}) for row in letters]
        self.dataset = f"letters-{self.number}"
        call(url, "POST", f"/api/v1/datasets/{self.dataset}?format=jsonl", "\n".join(lines).encode())

    def step(self):
        self.number += 1
        job = call(self.url, "POST", "/api/v1/jobs", json.dumps({
            "kind": "train", "model": "tiny-gpt", "dataset": self.dataset, "validation_fraction": 0,
            "hyperparameters": {"epochs": 1, **self.size}, "into": {"model": "letters", "version": str(self.number)},
        }).encode())
        while job["state"] in ("queued", "running"):
            time.sleep(0.01)
            job = call(self.url, "GET", f"/api/v1/jobs/{job['id']}")
        assert job["state"] == "succeeded", job
        assert job["progress"]["step"] == self.STEPS, job["progress"]
        return job["progress"]["ran_ms"] / 1e3 / self.STEPS


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.input, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.input(self.norms[0](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, width, layers, heads, context, **_):
        super().__init__()
        self.words = nn.Embedding(256, width)
        self.places = nn.Parameter(torch.randn(context, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256)

    def forward(self, text):
        return self.head(self.norm(self.blocks(self.words(text) + self.places)))


class PyTorch:
    STEPS = 100

    def __init__(self, size):
        self.model = Gpt(**size)
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=3e-3, weight_decay=0.01, fused=True)
        self.text = torch.randint(97, 123, (size["batch_size"], size["context"] + 1))

    def step(self):
        began = time.perf_counter()
        for _ in range(self.STEPS):
            logits = self.model(self.text[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), self.text[:, 1:].flatten())
            self.adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.adam.step()
            loss.item()
        return (time.perf_counter() - began) / self.STEPS


if __name__ == "__main__":
    main()
