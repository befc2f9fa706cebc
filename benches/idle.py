#!/usr/bin/env python3
"""Memory of deployed models: 1,000 models of the digits plugin, published one after another.

    cargo build --release --workspace
    python3 benches/idle.py [--models 1000]

Prints the server's resident memory per model beyond that of the empty server: right after publishing, after a
restart (deployed, none called yet), and after every model has been called once. Prints also how long publishing took
until the version was live, and how long a restart took until the server was ready.
"""

import argparse
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("INNKEEPER_BIN", ROOT / "target/release"))


class Server:
    def __init__(self, data):
        began = time.monotonic()
        command = [BIN / "innkeeper", "serve", "--dev", "--data", data, "--http", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if "listening on http://" in line:
                self.port = int(line.strip().rsplit(":", 1)[1])
                break
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.send("GET", "/v2/health/ready")
        self.ready_s = time.monotonic() - began

    def send(self, method, path, body=None, kind="application/json"):
        self.connection.request(method, path, body, {"Content-Type": kind})
        response = self.connection.getresponse()
        data = response.read()
        if response.status not in (200, 201):
            raise RuntimeError(f"{method} {path}: {response.status} {data[:300]!r}")
        return data

    def resident(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    count = parser.parse_args().models
    pixels = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
    request = json.dumps({"inputs": [pixels]})
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        environment = os.environ | {"INNKEEPER_GUEST_TARGET_DIR": str(ROOT / "target/guests")}
        build = [BIN / "innkeeper", "build", ROOT / "plugins/digits", "--out", folder / "digits.bundle"]
        subprocess.run(build, env=environment, check=True)
        bundle = (folder / "digits.bundle").read_bytes()
        server = Server(folder / "data")
        try:
            empty = server.resident()
            report = lambda what: print(f"{what}: {(server.resident() - empty) / count / 1024:.1f} KiB per model")
            times = []
            for i in range(count):
                began = time.monotonic()
                server.send("POST", f"/api/v1/models/digits-{i}/versions/1", bundle, "application/x-tar")
                times.append((time.monotonic() - began) * 1000)
            print(f"empty server: {empty / 1024 / 1024:.1f} MiB")
            print(f"publish until live: first {times[0]:.0f} ms (compiles), median {statistics.median(times):.1f} ms")
            report(f"{count} models published")
            server.stop()
            server = Server(folder / "data")
            print(f"restart until ready: {server.ready_s * 1000:.0f} ms")
            report("deployed after a restart, none called")
            for i in range(count):
                server.send("POST", f"/v2/models/digits-{i}/infer", request)
            report("each called once, one warm instance each")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
