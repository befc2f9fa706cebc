"""Trains the network of this plugin and writes its weights and the digits that were held out.

    pip install -r requirements.txt
    python train.py

The data is scikit-learn's `load_digits`: 1797 images of 8 by 8 pixels from 0 to 16, part of the package. A third,
stratified by label, is held out: it is written to samples/ and the network never sees it. Seeds are fixed, so the same
versions give the same weights.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent
SEED = 20
BRIGHTEST = 16.0


def main():
    pixels, labels = load_digits(return_X_y=True)
    seen, held_out, seen_labels, held_out_labels = train_test_split(
        pixels, labels, test_size=1 / 3, stratify=labels, random_state=SEED
    )
    network = MLPClassifier(
        hidden_layer_sizes=(64, 32), alpha=1e-3, max_iter=400, random_state=SEED
    )
    network.fit(seen / BRIGHTEST, seen_labels)
    accuracy = network.score(held_out / BRIGHTEST, held_out_labels)
    print(f"{accuracy:.4f} of the {len(held_out)} held-out digits are right")
    if accuracy < 0.95:
        raise SystemExit("that is less than 0.95; nothing is written")
    write_weights(network)
    write_samples(held_out, held_out_labels, network.predict_proba(held_out / BRIGHTEST))


def write_weights(network):
    """Each layer as [out, in] and [out], which is what `Tensor::linear` takes."""
    tensors = {}
    for i, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_), start=1):
        tensors[f"layer{i}.weight"] = np.ascontiguousarray(weight.T, dtype=np.float32)
        tensors[f"layer{i}.bias"] = bias.astype(np.float32)
    asset = HERE / "assets" / "weights.safetensors"
    save_file(tensors, asset)
    asset.chmod(0o644)


def write_samples(pixels, labels, probabilities):
    samples = HERE / "samples"
    np.save(samples / "held_out_pixels.npy", pixels.astype(np.uint8))
    np.save(samples / "held_out_labels.npy", labels.astype(np.uint8))
    first = slice(0, 2)
    request = {
        "id": "two-digits",
        "inputs": [tensor("INPUT0", "FP32", pixels[first])],
    }
    answer = {
        "outputs": [
            tensor("PROBABILITIES", "FP32", probabilities[first]),
            tensor("LABEL", "INT64", probabilities[first].argmax(axis=1)),
        ]
    }
    write_json(samples / "two-digits.json", request)
    write_json(samples / "two-digits.expected.json", answer)


def tensor(name, datatype, values):
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(values.shape),
        "data": values.ravel().tolist(),
    }


def write_json(path, value):
    path.write_text(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
