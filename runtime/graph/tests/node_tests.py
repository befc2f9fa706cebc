"""Writes the node tests of the `onnx` package to the folder that is given, for tests/node_tests.rs.

Every test becomes NAME.onnx, the model, and NAME.K.onnx, its data: a model that has the inputs and wanted outputs of data
set K as initialisers named input.NAME and output.NAME. A test that takes or gives something that is no tensor has no data.

    pip install onnx==1.23.2
    python runtime/graph/tests/node_tests.py target/node-tests
"""

import sys
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def tensor(name, value):
    """The value as an initialiser, or None when it is no tensor."""
    if isinstance(value, TensorProto):
        made = TensorProto()
        made.CopyFrom(value)
    elif isinstance(value, (numpy.ndarray, numpy.generic)):
        made = numpy_helper.from_array(numpy.asarray(value))
    else:
        return None
    made.name = name
    return made


def data(infos, kind, values):
    pairs = zip(infos, values)
    return [tensor(f"{kind}.{info.name}", value) for info, value in pairs]


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for case in collect_testcases(None):
        graph = case.model.graph
        names.append(f"{case.name} {case.rtol} {case.atol}")
        (folder / f"{case.name}.onnx").write_bytes(case.model.SerializeToString())
        for index, (inputs, outputs) in enumerate(case.data_sets or []):
            held = data(graph.input, "input", inputs) + data(graph.output, "output", outputs)
            if any(one is None for one in held):
                continue
            infos = [helper.make_tensor_value_info(one.name, one.data_type, None) for one in held]
            carrier = helper.make_graph([], "data", [], infos, held)
            model = helper.make_model(carrier, opset_imports=[helper.make_opsetid("", 17)])
            (folder / f"{case.name}.{index}.onnx").write_bytes(model.SerializeToString())
    (folder / "names.txt").write_text("\n".join(sorted(names)) + "\n")
    (folder / "made-of").write_text(f"onnx {onnx.__version__}\n")
    print(f"{len(names)} tests in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
