"""A trained model with its preprocessing, as `train` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost as xgb

from toolkit.failure import FatalError

from .preparation import Preparation


@dataclass(frozen=True)
class Model:
    booster: xgb.Booster
    preparation: Preparation

    @classmethod
    def load(cls, folder: Path, threads: int = 0) -> Model:
        """Load a model from its folder. Raises `FatalError` if the folder has no model of this container."""
        preparation = Preparation.load(folder)
        try:
            return cls(xgb.Booster({"nthread": threads}, model_file=folder / "model.ubj"), preparation)
        except xgb.core.XGBoostError:
            raise FatalError(f"could not read model.ubj in folder {folder.name}") from None

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return predictions, float32 [rows].

        :param features: float32 [rows, features] from `Preparation.encode`
        """
        types = self.preparation.types
        return self.booster.predict(xgb.DMatrix(features, feature_types=types, enable_categorical=True))
