#!/usr/bin/env python3
"""How long one tenant waits while another floods the host: the 99th percentile of its latency, beside that when all is quiet.

A server with two tenants of the same weight. One calls its model at a steady rate that takes less than its half of the
processors. Quiet and flooded times alternate, round after round; in flooded ones the other tenant keeps as many calls
in flight as it is allowed and as many again waiting. What is printed are medians over the rounds, and the ratio of
flooded to quiet as the median of the ratios within a round.

    cargo build --release --workspace
    python3 benches/fair.py [--rounds 3] [--seconds 6]

It ends with 1 where a ratio is over its bar.
"""

import argparse
import atexit
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from serve import BIN, ROOT, free_port, start, stop_all, wait_for

# What each side is told to do (tests/guests/README.md), how often the steady one asks, and what its ratio may be.
CASES = [
    # name, steady: mode, ms of work, calls a second; flood: mode, ms of work; bar
    ("guest code, 5 ms", "count", 5, 60, "count", 5, 1.5),
    ("guest code, 20 ms", "count", 20, 15, "count", 20, 1.5),
    ("guest code against matrix products", "count", 20, 15, "huge-product", None, 1.5),
    ("small calls", "ok", None, 200, "ok", None, None),
]


def body(mode, value=None):
    inputs = [{"name": "MODE", "datatype": "BYTES", "shape": [1], "data": [mode]}]
    if value is not None:
        inputs.append({"name": "VALUE", "datatype": "FP32", "shape": [1], "data": [value]})
    return json.dumps({"inputs": inputs}).encode()


class Tenant:
    def __init__(self, port, key):
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def call(self, connection, content):
        connection.request("POST", "/v2/models/told/infer", content, self.headers)
        response = connection.getresponse()
        response.read()
        return response.status


def started(folder):
    binary, port, data = BIN / "innkeeper", free_port(), folder / "data"
    environment = os.environ | {"INNKEEPER_GUEST_TARGET_DIR": str(ROOT / "target/guests")}
    bundle = folder / "told.bundle"
    guest = ROOT / "tests/guests/hostile"
    subprocess.run([binary, "build", guest, "--out", bundle], env=environment, check=True)
    start([binary, "serve", "--data", data, "--http", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL)
    wait_for(port)
    client = os.environ | {"INNKEEPER_URL": f"http://127.0.0.1:{port}"}
    admin = client | {"INNKEEPER_KEY": (data / "admin.key").read_text().strip()}

    def innkeeper(settings, *words):
        return subprocess.run([binary, *words], env=settings, check=True, capture_output=True, text=True).stdout

    tenants = []
    for name in ("steady", "flood"):
        innkeeper(admin, "tenant", "create", name)
        key = innkeeper(admin, "key", "create", "--tenant", name, "--scopes", "predict,publish").split()[-1]
        innkeeper(client | {"INNKEEPER_KEY": key}, "push", bundle, "--model", "told", "--version", "1")
        tenants.append(Tenant(port, key))
    innkeeper(admin, "limits", "flood", "--set", "deadline_ms_max=5000")
    return tenants


def millions_for(tenant, ms):
    """How many million rounds take so long, when nothing else runs."""
    connection = tenant.connect()
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert tenant.call(connection, body("count", 10)) == 200
        took.append((time.perf_counter() - began) * 1000)
    return 10 * ms / min(took)


def steady(tenant, content, rate, seconds):
    """Milliseconds of each call, one after another; what is late is not made up for."""
    connection, took = tenant.connect(), []
    assert tenant.call(connection, content) == 200
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        status = tenant.call(connection, content)
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(max(0, began + 1 / rate - time.perf_counter()))
        if status != 200:
            raise RuntimeError(f"the steady tenant was answered {status}")
    return took


class Flood:
    def __init__(self, tenant, content, connections, folder):
        file = folder / "flood.body"
        file.write_bytes(content)
        lines = "\n".join(f"{name}: {value}" for name, value in tenant.headers.items())
        command = ["wrk", "-t1", f"-c{connections}", "-d3600s", "--timeout", "60s", "-s", ROOT / "benches/post.lua",
                   f"http://127.0.0.1:{tenant.port}/v2/models/told/infer"]
        self.process = start(command, env=os.environ | {"BODY": str(file), "HEADERS": lines},
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        if self.process.poll() is not None:
            raise RuntimeError("wrk does not run")

    def stop(self):
        self.process.kill()
        self.process.wait()
        # What is in flight ends at the next tick once its client is gone.
        time.sleep(1)


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--connections", type=int, default=128)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="innkeeper-fair-"))
    atexit.register(stop_all)
    light, heavy = started(folder)
    millions = {ms: millions_for(light, ms) for ms in (5, 20)}
    print("| what | rate | quiet p50 ms | quiet p99 ms | flooded p50 ms | flooded p99 ms | p99 flooded of quiet | bar |")
    print("|---|---|---|---|---|---|---|---|")
    missed = False
    for name, mode, ms, rate, flood_mode, flood_ms, bar in CASES:
        own = body(mode, ms and millions[ms])
        other = body(flood_mode, flood_ms and millions[flood_ms])
        rounds = []
        for _ in range(options.rounds):
            quiet = steady(light, own, rate, options.seconds)
            flood = Flood(heavy, other, options.connections, folder)
            flooded = steady(light, own, rate, options.seconds)
            flood.stop()
            rounds.append([quantile(values, part) for values in (quiet, flooded) for part in (0.5, 0.99)])
        middle = [statistics.median(column) for column in zip(*rounds)]
        ratio = statistics.median(round[3] / round[1] for round in rounds)
        missed |= bar is not None and ratio > bar
        cells = " | ".join(f"{value:.2f}" for value in middle)
        print(f"| {name} | {rate}/s | {cells} | {ratio:.2f} | {bar or ''} |", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
