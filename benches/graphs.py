"""ONNX Runtime and the graph executor in turn, for `minilm.py` and `models.py`.

Both run the same file on the same inputs, on as many threads as the row says, for the same time in each round. A ratio
is the median of the ratios within a round; below 1 Innkeeper is faster.
"""

import os
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
MODELS = Path(os.environ.get("INNKEEPER_TEST_MODELS", TARGET / "models"))
WARM_UP = 3
# What one side's threads may spin after a call, before they would disturb the other side.
PAUSE = 0.03


class Executor:
    """Innkeeper's, natively: the example `bench` of runtime/graph."""

    name = "innkeeper"

    def __init__(self):
        program = os.environ.get("INNKEEPER_BENCH_DRIVER", TARGET / "release/examples/bench")
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *words):
        print(*words, sep="\t", file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the driver ended at {words}")
        return answer

    def time(self, cell, seconds):
        """Microseconds."""
        words = (cell.ours, cell.file, cell.threads, int(seconds * 1000))
        return float(self.ask("time", *words))

    def cpu(self, cell, seconds):
        """Microseconds on a processor."""
        return float(self.ask("cpu", cell.ours, cell.file, int(seconds * 1000)))

    def check(self, cell):
        return float(self.ask("check", cell.ours, cell.file, cell.threads))

    def profile(self, cell, calls=50):
        text = self.ask("profile", cell.ours, cell.file, cell.threads, calls)
        while (line := self.process.stdout.readline()).strip():
            text += line
        return text


class OnnxRuntime:
    """With inputs bound beforehand, so that it copies nothing either."""

    name = "ONNX Runtime"

    def __init__(self):
        self.sessions = {}

    def session(self, cell):
        key = (cell.model, cell.threads)
        if key not in self.sessions:
            # Of one number of threads at a time, as the other side has it.
            self.sessions = {k: v for k, v in self.sessions.items() if k[1] == cell.threads}
            options = ort.SessionOptions()
            options.intra_op_num_threads = cell.threads
            options.inter_op_num_threads = 1
            self.sessions[key] = ort.InferenceSession(
                cell.model, options, providers=["CPUExecutionProvider"]
            )
        return self.sessions[key]

    def outputs(self, cell):
        session = self.session(cell)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, cell.inputs)))

    def time(self, cell, seconds):
        return statistics.median(self.times(cell, seconds, time.perf_counter)) * 1e6

    def cpu(self, cell, seconds):
        return statistics.mean(self.times(cell, seconds, time.thread_time)) * 1e6

    def times(self, cell, seconds, clock):
        session = self.session(cell)
        binding = session.io_binding()
        for name, value in cell.inputs.items():
            binding.bind_cpu_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name)
        for _ in range(WARM_UP):
            session.run_with_iobinding(binding)
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or not times:
            began = clock()
            session.run_with_iobinding(binding)
            times.append(clock() - began)
        return times


class Cell:
    """A model, inputs and a number of threads."""

    def __init__(self, model, label, inputs, threads):
        self.model = str(MODELS / f"{model}.onnx")
        if not Path(self.model).is_file():
            raise SystemExit(f"{self.model} is missing; cargo xtask models makes it")
        # What Innkeeper runs, when it is another file.
        self.ours = self.model
        self.name, self.label, self.inputs, self.threads = model, label, inputs, threads
        self.file = str(MODELS / f"bench-{model}-{label.replace(' ', '-')}.safetensors")

    def write(self, peer):
        tensors = {f"input.{name}": value for name, value in self.inputs.items()}
        tensors |= {f"output.{name}": value for name, value in peer.outputs(self).items()}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, self.file)


def arguments(parser):
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.5, help="of each side in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="what the operations take")
    parser.add_argument("--cpu", action="store_true", help="time on a processor; for 1 thread")
    return parser.parse_args()


def run(cells, chosen):
    ours, peer = Executor(), OnnxRuntime()
    print("| model | input | threads | ONNX Runtime us | Innkeeper us | ratio | largest error |")
    print("|---|---|---|---|---|---|---|")
    for cell in cells:
        cell.write(peer)
        error = ours.check(cell)
        times = []
        for number in range(chosen.rounds):
            sides = [peer, ours] if number % 2 == 0 else [ours, peer]
            took = {}
            for side in sides:
                measure = side.cpu if chosen.cpu else side.time
                took[side.name] = measure(cell, chosen.seconds)
                time.sleep(PAUSE)
            times.append((took[peer.name], took[ours.name]))
        theirs, mine = (statistics.median(column) for column in zip(*times))
        ratio = statistics.median(mine / theirs for theirs, mine in times)
        print(
            f"| {cell.name} | {cell.label} | {cell.threads} | {theirs:,.1f} | {mine:,.1f} "
            f"| {ratio:.2f} | {error:.1e} |",
            flush=True,
        )
        if chosen.profile:
            print(ours.profile(cell))
