"""Times a training step of the network 1000-64-64-10 (batch 32, Adam, sparse cross-entropy) against PyTorch.

    cargo build --release -p innkeeper-sdk --example mlp_step
    pip install torch==2.15.0 numpy
    python benches/train.py [--rounds 5] [--steps 500] [--threads 1] [--url http://127.0.0.1:8080 --model trainer]

Rounds are taken in turn: native SDK, guest (with --url: a server that serves tests/guests/trainer as --model, key in
INNKEEPER_KEY), PyTorch with fused Adam. What is printed are medians of microseconds per step, and medians of the ratios
within a round.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent


def main():
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    sides = {"native": Native(arguments.binary), "pytorch": PyTorch()}
    if arguments.url:
        sides["guest"] = Guest(arguments.url, arguments.model)
    for side in sides.values():
        side.step(50)
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append({name: side.step(arguments.steps) for name, side in sides.items()})
    for name in sides:
        times = [round[name] for round in rounds]
        print(f"{name}: {statistics.median(times):.1f} us ({min(times):.1f} to {max(times):.1f})")
    for name in sides:
        if name != "pytorch":
            ratio = statistics.median(round["pytorch"] / round[name] for round in rounds)
            print(f"PyTorch takes {ratio:.2f} times as long as {name}")
    if "guest" in sides:
        ratio = statistics.median(round["guest"] / round["native"] for round in rounds)
        print(f"the guest takes {ratio:.3f} times as long as native")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--binary", default=target / "release/examples/mlp_step")
    parser.add_argument("--url")
    parser.add_argument("--model", default="trainer")
    return parser.parse_args()


class Native:
    def __init__(self, binary):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([binary], stdin=pipe, stdout=pipe, text=True)

    def step(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline().split()[0])


class PyTorch:
    def __init__(self):
        torch.manual_seed(20)
        self.model = nn.Sequential(
            nn.Linear(1000, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        self.adam = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.x, self.labels = torch.rand(32, 1000), torch.randint(0, 10, (32,))

    def step(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            self.adam.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(self.model(self.x), self.labels).backward()
            self.adam.step()
        return (time.perf_counter() - start) * 1e6 / steps


class Guest:
    """The steps of one request; what the request itself costs is taken off by a request of no steps."""

    def __init__(self, url, model):
        self.url = f"{url}/v2/models/{model}/infer"

    def step(self, steps):
        self.request(0)
        return (self.request(steps) - self.request(0)) * 1e6 / steps

    def request(self, steps):
        inputs = [
            {"name": "TASK", "datatype": "BYTES", "shape": [1], "data": ["mlp"]},
            {"name": "STEPS", "datatype": "INT64", "shape": [1], "data": [steps]},
        ]
        headers = {"content-type": "application/json"}
        if key := os.environ.get("INNKEEPER_KEY"):
            headers["authorization"] = f"Bearer {key}"
        body = json.dumps({"inputs": inputs}).encode()
        start = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(self.url, body, headers)) as answer:
            answer.read()
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
