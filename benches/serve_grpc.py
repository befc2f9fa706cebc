#!/usr/bin/env python3
"""Requests per second of add-one and mlp over gRPC: Innkeeper beside a bare tonic server and NVIDIA Triton.

All servers run on this machine, are checked to answer rightly, and are then measured in turn, round after round, by
h2load with one thread and one request at a time on each connection. What is printed are medians over the rounds, and the
ratio to each peer as the median of the ratios within a round. `mlp` has no bare peer and no Triton model here: its rows
say what a network costs on top.

    cargo build --release --workspace
    pip install --target target/peers/triton nvidia-pytriton==0.7.0
    python3 benches/serve_grpc.py [--rounds 3] [--seconds 3] [--triton target/peers/triton]

Needs h2load, and numpy, grpcio and tritonclient[grpc] for checking the answers. Without --triton Triton is left out, loudly.
"""

import argparse
import atexit
import os
import pathlib
import re
import statistics
import struct
import subprocess
import sys
import tempfile

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

import serve

INFER = "/inference.GRPCInferenceService/ModelInfer"


class Server:
    def __init__(self, name, port, model, bodies, key=None):
        self.name, self.port, self.model, self.key = name, port, model, key
        self.tensor, self.wanted = bodies

    def request(self):
        name, array = self.tensor
        tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=array.shape)
        request = pb.ModelInferRequest(model_name=self.model, inputs=[tensor], raw_input_contents=[array.tobytes()])
        return request.SerializeToString()

    def check(self):
        metadata = [("authorization", f"Bearer {self.key}")] if self.key else []
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            answer = channel.unary_unary(INFER)(self.request(), metadata=metadata, timeout=20, wait_for_ready=True)
        got = np.frombuffer(pb.ModelInferResponse.FromString(answer).raw_output_contents[0], dtype=np.float32)
        if self.wanted is not None and not np.array_equal(got, self.wanted.ravel()):
            raise RuntimeError(f"{self.name} answers {got}")

    def measure(self, connections, seconds, folder):
        """Requests per second and the 99th percentile in milliseconds, without the warm-up."""
        message = self.request()
        body = folder / f"{self.name}-{self.model}.body".replace(" ", "-")
        body.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        log = folder / "h2load.log"
        log.unlink(missing_ok=True)
        command = ["h2load", "-t1", f"-c{connections}", "-m1", f"-D{seconds}", f"--log-file={log}", "-d", body,
                   "-H", "content-type: application/grpc", "-H", "te: trailers"]
        if self.key:
            command += ["-H", f"authorization: Bearer {self.key}"]
        command.append(f"http://127.0.0.1:{self.port}{INFER}")
        text = subprocess.run([str(part) for part in command], capture_output=True, text=True).stdout
        rate = float(re.search(r"finished in [\d.]+s, ([\d.]+) req/s", text)[1])
        failed = re.search(r"(\d+) failed, (\d+) errored", text)
        if failed[1] != "0" or failed[2] != "0":
            raise RuntimeError(f"{self.name}: {text}")
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        return rate, times[int(len(times) * 0.99)] / 1000


def add_one():
    array = np.arange(16, dtype=np.float32).reshape(1, 16)
    return ("INPUT0", array), array + 1


def mlp(port, key):
    """The model's own first input, filled with halves."""
    metadata = [("authorization", f"Bearer {key}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        said = channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata")(
            pb.ModelMetadataRequest(name="mlp").SerializeToString(), metadata=metadata, wait_for_ready=True
        )
    spec = pb.ModelMetadataResponse.FromString(said).inputs[0]
    shape = [1 if size < 0 else size for size in spec.shape]
    return (spec.name, np.full(shape, 0.5, dtype=np.float32)), None


def start_bare():
    port = serve.free_port()
    serve.start([serve.BIN / "bare_grpc", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL)
    return Server("bare tonic", port, "add-one", add_one())


def start_innkeeper(folder):
    binary = serve.BIN / "innkeeper"
    environment = os.environ | {"INNKEEPER_GUEST_TARGET_DIR": str(serve.ROOT / "target/guests")}
    http, port, data = serve.free_port(), serve.free_port(), folder / "data"
    serve.start([binary, "serve", "--data", data, "--http", f"127.0.0.1:{http}", "--grpc", f"127.0.0.1:{port}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    serve.wait_for(http)
    key = (data / "admin.key").read_text().strip()
    client = os.environ | {"INNKEEPER_URL": f"http://127.0.0.1:{http}", "INNKEEPER_KEY": key}
    for model in ["add-one", "mlp"]:
        bundle = folder / f"{model}.bundle"
        subprocess.run([binary, "build", serve.ROOT / "plugins" / model, "--out", bundle], env=environment, check=True)
        subprocess.run([binary, "push", bundle, "--model", model, "--version", "1"], env=client, check=True)
    return [Server("innkeeper", port, "add-one", add_one(), key), Server("innkeeper", port, "mlp", mlp(port, key), key)]


def start_triton(folder, wheel):
    rest = serve.start_triton(folder, wheel)
    return Server("triton 2.51", rest.grpc_port, "addone", add_one())


def report(results, servers, connections):
    rates = {key: [rate for rate, _ in values] for key, values in results.items()}
    print("\n| model | connections | server | requests/s | p99 ms | of bare tonic | of Triton |")
    print("|---|---|---|---|---|---|---|")
    for count in connections:
        for server in servers:
            key = (server.name, server.model, count)
            cells = []
            for peer, model in [("bare tonic", "add-one"), ("triton 2.51", "addone")]:
                other = rates.get((peer, model, count))
                comparable = other and peer != server.name and server.model != "mlp"
                cells.append(f"{serve.ratio(rates[key], other):.2f}" if comparable else "")
            late = statistics.median(late for _, late in results[key])
            print(f"| {server.model} | {count} | {server.name} | {statistics.median(rates[key]):,.0f} "
                  f"| {late:.2f} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--triton", type=pathlib.Path, help="the folder with pytriton in it")
    options = parser.parse_args()
    atexit.register(serve.stop_all)
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
            for count in options.connections:
                for server in servers:
                    measured = server.measure(count, options.seconds if round_number else 1, folder)
                    if round_number:
                        results.setdefault((server.name, server.model, count), []).append(measured)
            print(f"round {round_number} of {options.rounds} done" if round_number else "warm", file=sys.stderr)
        report(results, servers, options.connections)


if __name__ == "__main__":
    main()
