"""What `innkeeper compress` saves and costs: bytes that a served model takes of its owner's memory (the file, and what
kernels keep of it), accuracy or cosine on calibration data, and the time of a call, both sides called in turn.

    cargo build --release --workspace
    python3 plugins/minilm/prepare.py
    python3 benches/compress.py

numpy is wanted. The memory is what `/api/v1/usage` says after a call, each bundle on a server of its own.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
BIN = pathlib.Path(os.environ.get("INNKEEPER_BIN", ROOT / "target/release"))
KINDS = ["int8", "int4", "bf16", "fp16"]


def run(folder, *words):
    done = subprocess.run([BIN / "innkeeper", *map(str, words)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def calibration(folder):
    digits = ROOT / "plugins/digits/samples"
    pixels = np.load(digits / "held_out_pixels.npy").astype(np.float32)
    np.savez(folder / "digits.npz", INPUT0=pixels, labels=np.load(digits / "held_out_labels.npy"))
    mlp = ROOT / "plugins/mlp/samples"
    rows = np.load(mlp / "input_4x1000.npy")
    np.savez(folder / "mlp.npz", INPUT0=np.tile(rows, (8, 1)))
    return {
        "digits": folder / "digits.npz",
        "mlp": folder / "mlp.npz",
        "minilm": ROOT / "plugins/minilm/samples/sentences.json",
    }


def memory(folder, model, bundle, request):
    """Bytes that count against the owner once the model has answered."""
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen(
            [BIN / "innkeeper", "serve", "--dev", "--data", data, "--http", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for line in server.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    url = found.group()
                    break
            run(folder, "push", bundle, "--url", url)
            ask = urllib.request.Request(f"{url}/v2/models/{model}/infer", request.read_bytes())
            urllib.request.urlopen(ask).read()
            time.sleep(0.1)
            usage = json.load(urllib.request.urlopen(f"{url}/api/v1/usage"))
            return usage["usage"]["asset_memory_bytes"]
        finally:
            server.terminate()
            server.wait()


def main():
    samples = {"digits": "two-digits", "mlp": "four-rows", "minilm": "sentences"}
    print("| model | kept as | file | memory | of FP32 | metric | before | after | a call takes |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for model, data in calibration(folder).items():
            plugin = ROOT / "plugins" / model
            run(folder, "build", plugin, "-o", folder / f"{model}.bundle")
            request = plugin / "samples" / f"{samples[model]}.json"
            plain = memory(folder, model, f"{model}.bundle", request)
            print(f"| {model} | FP32 | | {plain:,} | 1 | | | | 1 |", flush=True)
            for kind in KINDS:
                report = folder / "report.json"
                words = ["--to", kind, "--calibrate", data, "-o", "small.bundle", "--report", report]
                run(folder, "compress", f"{model}.bundle", *words)
                report = json.loads(report.read_text())
                total, measured = report["total"], report["measured"]
                small = memory(folder, model, "small.bundle", request)
                size = total["bytes_after"] / total["bytes_before"]
                slower = measured["ms_after"] / measured["ms_before"]
                print(
                    f"| {model} | {kind} | {size:.3f} | {small:,} | {small / plain:.3f} "
                    f"| {measured['metric']} | {measured['before']:.5f} | {measured['after']:.5f} | {slower:.2f} |",
                    flush=True,
                )


main()
