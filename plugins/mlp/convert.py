"""Converts the weights of a sequential network that Keras saved as HDF5 into this plugin's asset.

    pip install -r requirements.txt
    python convert.py path/to/model.h5

A Keras kernel is [in, out]; the asset has [out, in], which is what `Tensor::linear` takes. Names are taken from the
file's own `layer_names` and `weight_names`, since Keras 2 and 3 lay the groups out differently.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import save_file

ASSET = Path(__file__).parent / "assets" / "weights.safetensors"
SHAPES = [(64, 1000), (64, 64), (10, 64)]


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: python convert.py path/to/model.h5")
    layers = list(dense_layers(sys.argv[1]))
    shapes = [kernel.T.shape for kernel, _ in layers]
    if shapes != SHAPES:
        raise SystemExit(f"this plugin runs layers of {SHAPES} (out, in); the file has {shapes}")
    tensors = {}
    for i, (kernel, bias) in enumerate(layers, start=1):
        tensors[f"dense{i}.weight"] = np.ascontiguousarray(kernel.T, dtype=np.float32)
        tensors[f"dense{i}.bias"] = bias.astype(np.float32)
    save_file(tensors, ASSET)
    ASSET.chmod(0o644)
    print(f"wrote {ASSET}: {', '.join(tensors)}")


def dense_layers(path):
    """Kernel and bias of each layer that has any, in the network's order."""
    with h5py.File(path, "r") as file:
        root = file["model_weights"]
        for layer in texts(root.attrs["layer_names"]):
            weights = [root[layer][name][()] for name in texts(root[layer].attrs["weight_names"])]
            if len(weights) == 2:
                yield weights
            elif weights:
                raise SystemExit(f"layer {layer!r} has {len(weights)} weights; a dense one has two")


def texts(values):
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


if __name__ == "__main__":
    main()
