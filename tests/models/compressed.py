"""A small network with every kind of weight that `innkeeper compress` rewrites, and what ONNX Runtime answers with each file
that it makes: `python tests/models/compressed.py target/release/innkeeper`."""

import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ASSETS = pathlib.Path(__file__).parent.parent / "guests/networks/assets"
IDS = [[3, 41, 7, 0, 19]]


def network():
    rng = np.random.default_rng(7)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    initializers = [
        weight("table", 50, 32),
        weight("right", 32, 64),
        weight("turned", 64, 64),
        weight("bias", 64),
        weight("filter", 32, 1, 3, 3),
        numpy_helper.from_array(np.array([0, 1, 8, 8], np.int64), "plane"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "IDS"], ["rows"]),
        helper.make_node("MatMul", ["rows", "right"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["bent"]),
        helper.make_node("ReduceMean", ["bent", "axis"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "turned", "bias"], ["layer"], transB=1),
        helper.make_node("Reshape", ["layer", "plane"], ["image"]),
        helper.make_node("Conv", ["image", "filter"], ["planes"]),
        helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["Y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "weights",
        [helper.make_tensor_value_info("IDS", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["n", 32])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def answer(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"IDS": np.array(IDS, np.int64)})[0].tolist()


def main():
    innkeeper = pathlib.Path(sys.argv[1]).resolve()
    (ASSETS / "weights.onnx").write_bytes(network())
    answers = {"plain": answer(network())}
    with tempfile.TemporaryDirectory() as folder:

        def run(*words):
            subprocess.run([innkeeper, *words], cwd=folder, check=True, stdout=sys.stderr)

        run("import", ASSETS / "weights.onnx", "-o", "plain.bundle")
        for kind in ["int8", "int4", "fp16", "bf16", "prune"]:
            words = ["--prune", "2:4"] if kind == "prune" else ["--to", kind]
            run("compress", "plain.bundle", *words, "-o", f"{kind}.bundle")
            bundle = tarfile.open(pathlib.Path(folder) / f"{kind}.bundle")
            model = bundle.extractfile("assets/model.onnx").read()
            onnx.checker.check_model(onnx.load(io.BytesIO(model)))
            answers[kind] = answer(model)
    for kind, numbers in answers.items():
        off = np.abs(np.array(numbers) - np.array(answers["plain"])).max()
        print(f"{kind}: at most {off:.5f} off", file=sys.stderr)
    text = json.dumps({"ids": IDS, "answers": answers})
    (ASSETS / "weights.json").write_text(text + "\n")


main()
