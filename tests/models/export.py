"""Exports the models that the graph executor is tested and measured with, and ONNX Runtime's answers to some inputs.

    cargo xtask models

makes the Python environment (target/models-venv, of requirements.txt) and runs this. The files go to target/models, or to
where INNKEEPER_TEST_MODELS says. `export.py NAME..` exports only some of: torch, minilm, classifiers, layers.
"""

import sys
import time

import classifiers
import layers
import minilm
import torch_models

GROUPS = {
    "torch": torch_models.export,
    "minilm": minilm.export,
    "classifiers": classifiers.export,
    "layers": layers.export,
}


def main(names):
    unknown = set(names) - set(GROUPS)
    if unknown:
        raise SystemExit(f"there is no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    for name in names or GROUPS:
        began = time.monotonic()
        GROUPS[name]()
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
