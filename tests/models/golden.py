"""Where models and goldens go, and how they are written.

A model is `NAME.onnx`. A case of it is `NAME.CASE.safetensors`: tensors `input.X` are what the model is given, tensors
`output.X` are what ONNX Runtime answers to that. Strings are rows of bytes, filled up with zeros, named `text.X`.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("INNKEEPER_TEST_MODELS", ROOT / "target" / "models"))


def path(name):
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER / f"{name}.onnx"


def session(name, threads=2):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path(name), options, providers=["CPUExecutionProvider"])


def write(name, cases, reference=None, tolerance=1e-4):
    """Writes ONNX Runtime's answer to each case (a dictionary of arrays by input name).

    `reference` answers a case with the list of outputs that the framework of origin gives: what ONNX Runtime says must
    agree, or else the export is wrong and no golden is written.
    """
    runtime = session(name)
    names = [output.name for output in runtime.get_outputs()]
    for case, inputs in cases.items():
        answers = dict(zip(names, runtime.run(names, inputs)))
        if reference is not None:
            for output, wanted in zip(names, reference(inputs)):
                check(f"{name}.{case}: {output}", answers[output], np.asarray(wanted), tolerance)
        tensors = {f"input.{key}": np.ascontiguousarray(value) for key, value in inputs.items()}
        tensors |= dict(stored(key, value) for key, value in answers.items())
        file = FOLDER / f"{name}.{case}.safetensors"
        save_file(tensors, file)
        file.chmod(0o644)
    size = path(name).stat().st_size / 2**20
    print(f"{name}: {size:.1f} MiB, cases {', '.join(cases)}", flush=True)


def stored(key, value):
    if value.dtype != object:
        return f"output.{key}", np.ascontiguousarray(value)
    rows = np.array([text.encode() for text in value])
    return f"text.{key}", rows.view(np.uint8).reshape(len(rows), -1).copy()


def check(what, got, wanted, tolerance):
    if got.shape != wanted.shape:
        raise SystemExit(f"{what} has the shape {got.shape}, the original {wanted.shape}")
    if wanted.dtype.kind in "OU":
        if (got != wanted).any():
            raise SystemExit(f"{what} are other strings than the original's")
        return
    scale = max(float(np.abs(wanted).max(initial=0)), 1e-30)
    error = float(np.abs(got.astype(np.float64) - wanted).max(initial=0)) / scale
    if not error <= tolerance:
        raise SystemExit(f"{what} differs from the original by {error:.2e} of its largest element")
