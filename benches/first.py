"""Times the first request that a version answers after it was published, beside later ones, as published and compressed.

    cargo build --release --workspace
    python3 plugins/minilm/prepare.py
    python3 benches/first.py [--rounds 5] [--models digits mlp]

Each round publishes every form as a new version on one server, and asks it 100 times over one connection that is there already.
What is printed are medians over the rounds: of the first request, of the 91st to the 100th, and of their ratio.
"""

import argparse
import http.client
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
BIN = pathlib.Path(os.environ.get("INNKEEPER_BIN", ROOT / "target/release")) / "innkeeper"
SAMPLES = {"digits": "two-digits", "mlp": "four-rows", "minilm": "sentences"}
FORMS = [[], ["--to", "int8"], ["--to", "bf16"]]
REQUESTS = 100


def run(folder, *words):
    done = subprocess.run([BIN, *map(str, words)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=SAMPLES, default=list(SAMPLES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen(
            [BIN, "serve", "--dev", "--data", data, "--http", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            url = next(found.group() for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            measure(folder, url, arguments.models, arguments.rounds)
        finally:
            server.terminate()
            server.wait()


def measure(folder, url, models, rounds):
    bundles = {}
    for model in models:
        run(folder, "build", ROOT / "plugins" / model, "-o", f"{model}.bundle")
        for form in FORMS:
            name = f"{model}-{form[-1] if form else 'fp32'}"
            bundles[name] = model, f"{name}.bundle" if form else f"{model}.bundle"
            if form:
                run(folder, "compress", f"{model}.bundle", *form, "-o", f"{name}.bundle")
    times = {name: [] for name in bundles}
    for version in range(1, rounds + 1):
        for name, (model, bundle) in bundles.items():
            run(folder, "push", bundle, "--model", name, "--version", version, "--url", url)
            times[name].append(asked(url, name, version, ROOT / "plugins" / model / "samples" / f"{SAMPLES[model]}.json"))
    print("| model | first | later | first / later |")
    print("|---|---|---|---|")
    for name, all in times.items():
        first, later, ratio = (statistics.median(values) for values in zip(*((a, b, a / b) for a, b in all)))
        print(f"| {name} | {first:.2f} ms | {later:.2f} ms | {ratio:.2f} |")


def asked(url, name, version, request):
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    body, times = request.read_bytes(), []
    ask(connection, "GET", "/v2/health/live", None)
    for _ in range(REQUESTS):
        began = time.perf_counter()
        ask(connection, "POST", f"/v2/models/{name}/versions/{version}/infer", body)
        times.append((time.perf_counter() - began) * 1e3)
    connection.close()
    return times[0], statistics.median(times[-10:])


def ask(connection, method, path, body):
    connection.request(method, path, body, {"content-type": "application/json"} if body else {})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {text.decode()}")


main()
