"""Times the training of the network 1000-64-64-10 as a job, against PyTorch, scikit-learn and Keras.

    innkeeper serve --dev --data DIR                        # in another terminal
    innkeeper build plugins/mlp && innkeeper push plugins/mlp/mlp.bundle --alias stable
    pip install torch scikit-learn numpy                    # tensorflow-cpu too, for Keras
    python benches/jobs.py [--url http://127.0.0.1:8000] [--rounds 3]

10,000 random rows, batches of 32, 10 epochs, Adam, sparse categorical cross-entropy; every side on all cores, in turn within a
round. A job's time is from its start to the published version; how long its steps took is told beside. What is printed are
medians, and the medians of the ratios within a round.
"""

import argparse
import io
import json
import os
import statistics
import time
import urllib.error
import urllib.request

import numpy as np

ROWS, FEATURES, CLASSES, BATCH, EPOCHS = 10_000, 1000, 10, 32, 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    chance = np.random.default_rng(0)
    x = chance.random((ROWS, FEATURES), dtype=np.float32)
    y = chance.integers(0, CLASSES, ROWS)
    sides = {"job": Job(arguments.url, x, y)}
    for name, side in [("pytorch", PyTorch), ("scikit-learn", ScikitLearn), ("keras", Keras)]:
        try:
            sides[name] = side(x, y)
        except ImportError as error:
            print(f"{name} is not measured: {error}")
    for side in sides.values():
        side.train()
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append({name: side.train() for name, side in sides.items()})
        print("  ".join(f"{name} {seconds:.3f} s" for name, seconds in rounds[-1].items()), flush=True)
    for name in sides:
        times = [round[name] for round in rounds]
        ratio = statistics.median(round[name] / round["job"] for round in rounds)
        print(f"{name}: {statistics.median(times):.3f} s, {ratio:.2f} times the job's")
    steps = statistics.median(sides["job"].steps[1:])
    print(f"the job's steps alone: {steps:.3f} s")


class Job:
    def __init__(self, url, x, y):
        self.url, self.steps, self.number = url, [], time.time_ns()
        file = io.BytesIO()
        np.savez(file, x=x, y=y)
        self.dataset = f"seed-{self.number}"
        call(self.url, "POST", f"/api/v1/datasets/{self.dataset}?format=npz", file.getvalue())

    def train(self):
        self.number += 1
        job = call(self.url, "POST", "/api/v1/jobs", json.dumps({
            "kind": "train", "model": "mlp", "dataset": self.dataset, "validation_fraction": 0,
            "hyperparameters": {"epochs": EPOCHS, "batch_size": BATCH, "standardize": False},
            "into": {"model": "seed", "version": str(self.number)},
        }).encode())
        while job["state"] in ("queued", "running"):
            time.sleep(0.01)
            job = call(self.url, "GET", f"/api/v1/jobs/{job['id']}")
        assert job["state"] == "succeeded", job
        self.steps.append(job["progress"]["ran_ms"] / 1e3)
        return (job["ended_ms"] - job["started_ms"]) / 1e3


def call(url, method, path, body=None):
    request = urllib.request.Request(url + path, data=body, method=method)
    if key := os.environ.get("INNKEEPER_KEY"):
        request.add_header("authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {path}: {error.read().decode()}")


class PyTorch:
    def __init__(self, x, y):
        import torch
        self.torch = torch
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def train(self):
        torch = self.torch
        model = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, 64), torch.nn.ReLU(),
            torch.nn.Linear(64, 64), torch.nn.ReLU(),
            torch.nn.Linear(64, CLASSES),
        )
        adam = torch.optim.Adam(model.parameters(), fused=True)
        loss_of = torch.nn.CrossEntropyLoss()
        began = time.perf_counter()
        for _ in range(EPOCHS):
            order = torch.randperm(ROWS)
            for start in range(0, ROWS, BATCH):
                rows = order[start:start + BATCH]
                loss = loss_of(model(self.x[rows]), self.y[rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
        return time.perf_counter() - began


class ScikitLearn:
    def __init__(self, x, y):
        from sklearn.neural_network import MLPClassifier
        self.kind, self.x, self.y = MLPClassifier, x, y

    def train(self):
        import warnings
        model = self.kind((64, 64), batch_size=BATCH, max_iter=EPOCHS, alpha=0, n_iter_no_change=EPOCHS + 1)
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(self.x, self.y)
        return time.perf_counter() - began


class Keras:
    def __init__(self, x, y):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import keras
        self.keras, self.x, self.y = keras, x, y

    def train(self):
        layers = self.keras.layers
        model = self.keras.Sequential([
            self.keras.Input((FEATURES,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=True)
        began = time.perf_counter()
        model.fit(self.x, self.y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
