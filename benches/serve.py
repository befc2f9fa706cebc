#!/usr/bin/env python3
"""Requests per second of add-one over REST: Innkeeper beside a bare hyper server and NVIDIA Triton.

All servers run on this machine, are checked to answer rightly, and are then measured in turn, round after round, by
wrk with one thread on the same cores. What is printed are medians over the rounds, and the ratio to each peer as the
median of the ratios within a round.

    cargo build --release --workspace
    pip install --target target/peers/triton nvidia-pytriton==0.7.0
    python3 benches/serve.py [--rounds 3] [--seconds 3] [--triton target/peers/triton]

DIR holds `pytriton` and `nvidia_pytriton.libs`, as pip installs them. Without it Triton is left out, loudly.
"""

import argparse
import atexit
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("INNKEEPER_BIN", ROOT / "target/release"))
VALUES = [i + 0.5 for i in range(16)]
processes = []


def stop_all():
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def start(command, **settings):
    process = subprocess.Popen([str(part) for part in command], **settings)
    processes.append(process)
    return process


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def json_body():
    tensor = {"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "data": VALUES}
    return json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}


def binary_body():
    tensor = {"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "parameters": {"binary_data_size": 64}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + struct.pack("<16f", *VALUES), headers


BODIES = {"JSON": json_body, "binary": binary_body}


class Server:
    def __init__(self, name, port, path, headers=None, forms=("JSON", "binary")):
        self.name, self.port, self.path, self.headers, self.forms = name, port, path, headers or {}, forms

    def answer(self, form):
        body, headers = BODIES[form]()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", self.path, body, headers | self.headers)
        response = connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"{self.name}: {response.status} {data[:300]!r}")
        length = response.getheader("Inference-Header-Content-Length")
        if length:
            return list(struct.unpack("<16f", data[int(length):]))
        return json.loads(data)["outputs"][0]["data"]

    def check(self):
        for form in self.forms:
            got = self.answer(form)
            if got != [value + 1 for value in VALUES]:
                raise RuntimeError(f"{self.name} answers {got} in {form}")

    def measure(self, form, connections, seconds, folder):
        body, headers = BODIES[form]()
        file = folder / f"{form}.body"
        file.write_bytes(body)
        lines = "\n".join(f"{name}: {value}" for name, value in (headers | self.headers).items())
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", ROOT / "benches/post.lua"]
        command.append(f"http://127.0.0.1:{self.port}{self.path}")
        environment = os.environ | {"BODY": str(file), "HEADERS": lines}
        text = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True).stdout
        if "Non-2xx" in text or "Socket errors" in text:
            raise RuntimeError(f"{self.name}: {text}")
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
        return rate, milliseconds(re.search(r"99%\s+([\d.]+)(us|ms|s)", text))


def milliseconds(found):
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def wait_for(port, path="/v2/health/ready"):
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", path)
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")


def start_bare():
    port = free_port()
    start([BIN / "bare", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL)
    wait_for(port, "/")
    return Server("bare hyper", port, "/", forms=("JSON",))


def start_innkeeper(folder):
    binary = BIN / "innkeeper"
    environment = os.environ | {"INNKEEPER_GUEST_TARGET_DIR": str(ROOT / "target/guests")}
    plugin = folder / "add-one"
    shutil.copytree(ROOT / "plugins/add-one", plugin, ignore=shutil.ignore_patterns("target"))
    manifest = (plugin / "Cargo.toml").read_text().replace("../../sdk", str(ROOT / "sdk"))
    (plugin / "Cargo.toml").write_text(manifest)
    settings = (plugin / "innkeeper.toml").read_text()
    bundles = {}
    for isolation in ("tenant", "request"):
        text = re.sub(r'isolation = "\w+"', f'isolation = "{isolation}"', settings)
        (plugin / "innkeeper.toml").write_text(text)
        bundles[isolation] = folder / f"{isolation}.bundle"
        subprocess.run([binary, "build", plugin, "--out", bundles[isolation]], env=environment, check=True)
    port = free_port()
    data = folder / "data"
    start([binary, "serve", "--data", data, "--http", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL)
    wait_for(port)
    key = (data / "admin.key").read_text().strip()
    client = os.environ | {"INNKEEPER_URL": f"http://127.0.0.1:{port}", "INNKEEPER_KEY": key}
    servers = []
    for isolation, bundle in bundles.items():
        model = f"add-one-{isolation}"
        subprocess.run([binary, "push", bundle, "--model", model, "--version", "1"], env=client, check=True)
        headers = {"Authorization": f"Bearer {key}"}
        servers.append(Server(f"innkeeper {isolation}", port, f"/v2/models/{model}/infer", headers))
    return servers


def start_triton(folder, wheel):
    server = wheel / "pytriton/tritonserver/bin/tritonserver"
    backend = folder / "backends/addone"
    backend.mkdir(parents=True)
    library = backend / "libtriton_addone.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, ROOT / "benches/peers/triton_add_one.c"], check=True)
    model = folder / "models/addone"
    (model / "1").mkdir(parents=True)
    tensor = 'name: "%s" data_type: TYPE_FP32 dims: [ -1, 16 ]'
    (model / "config.pbtxt").write_text(
        f'name: "addone" backend: "addone" max_batch_size: 0\n'
        f'input [ {{ {tensor % "INPUT0"} }} ]\noutput [ {{ {tensor % "OUTPUT0"} }} ]\n'
        f"instance_group [ {{ kind: KIND_CPU count: 1 }} ]\n"
    )
    ports = [free_port() for _ in range(3)]
    command = [server, "--model-repository", folder / "models", "--backend-directory", folder / "backends",
               "--http-address", "127.0.0.1", "--http-port", ports[0], "--grpc-address", "127.0.0.1",
               "--grpc-port", ports[1], "--metrics-port", ports[2], "--allow-gpu-metrics", "false"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(wheel / "nvidia_pytriton.libs")}
    log = open(folder / "triton.log", "wb")
    start(command, env=environment, stdout=log, stderr=log)
    wait_for(ports[0])
    server = Server("triton 2.51", ports[0], "/v2/models/addone/infer")
    server.grpc_port = ports[1]
    return server


def ratio(ours, theirs):
    return statistics.median(a / b for a, b in zip(ours, theirs))


def report(results, servers, connections):
    rates = {key: [rate for rate, _ in values] for key, values in results.items()}
    p99 = {key: statistics.median(late for _, late in values) for key, values in results.items()}
    print("\n| form | connections | server | requests/s | p99 ms | of bare hyper | of Triton |")
    print("|---|---|---|---|---|---|---|")
    for form in BODIES:
        for count in connections:
            for server in servers:
                key = (server.name, form, count)
                if key not in rates:
                    continue
                cells = []
                for peer in ("bare hyper", "triton 2.51"):
                    other = rates.get((peer, form, count))
                    cells.append(f"{ratio(rates[key], other):.2f}" if other and peer != server.name else "")
                rate = statistics.median(rates[key])
                print(f"| {form} | {count} | {server.name} | {rate:,.0f} | {p99[key]:.2f} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--triton", type=pathlib.Path, help="the folder with pytriton in it")
    options = parser.parse_args()
    atexit.register(stop_all)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        servers = [start_bare(), *start_innkeeper(folder)]
        if options.triton:
            servers.append(start_triton(folder, options.triton.resolve()))
        else:
            print("WITHOUT TRITON: --triton was not given", file=sys.stderr)
        for server in servers:
            server.check()
        results = {}
        for round_number in range(options.rounds + 1):
            for form in BODIES:
                for count in options.connections:
                    for server in (server for server in servers if form in server.forms):
                        seconds = options.seconds if round_number else 1
                        measured = server.measure(form, count, seconds, folder)
                        if round_number:
                            results.setdefault((server.name, form, count), []).append(measured)
            print(f"round {round_number} of {options.rounds} done" if round_number else "warm", file=sys.stderr)
        report(results, servers, options.connections)


if __name__ == "__main__":
    main()
