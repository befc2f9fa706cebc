"""Writes the digits that the guest learns from, and those that it is judged by.

    pip install scikit-learn safetensors
    python data.py

They are scikit-learn's `load_digits`: 1797 images of 8 by 8 pixels from 0 to 16; a fifth, stratified by label, is held out.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main():
    pixels, labels = load_digits(return_X_y=True)
    seen, held_out, seen_labels, held_out_labels = train_test_split(
        pixels, labels, test_size=0.2, stratify=labels, random_state=0
    )
    path = Path(__file__).parent / "assets" / "digits.safetensors"
    tensors = {
        "seen.pixels": seen,
        "seen.labels": seen_labels,
        "held_out.pixels": held_out,
        "held_out.labels": held_out_labels,
    }
    save_file({name: np.ascontiguousarray(x, dtype=np.uint8) for name, x in tensors.items()}, path)
    path.chmod(0o644)


if __name__ == "__main__":
    main()
