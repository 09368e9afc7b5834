"""A trained model and its preparation, as `train` leaves them: rows in, predictions out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xgboost as xgb

from .failure import Failure
from .preparation import Preparation


@dataclass(frozen=True)
class Model:
    preparation: Preparation
    booster: xgb.Booster

    @classmethod
    def load(cls, folder: Path, threads: int = 0) -> Model:
        """Raises `Failure` when the folder does not hold a model of this container's."""
        preparation = Preparation.load(folder)
        try:
            booster = xgb.Booster({"nthread": threads}, model_file=folder / "model.ubj")
        except xgb.core.XGBoostError as error:
            first = str(error).strip().splitlines()[-1]
            raise Failure(f"model.ubj in {folder.name} cannot be read: {first}") from None
        return cls(preparation, booster)

    def predict(self, rows: pa.Table) -> np.ndarray:
        """Columns by source name, [rows] → float32 [rows]. Raises `Failure` for a number too large."""
        if rows.num_rows == 0:
            return np.empty(0, np.float32)
        prepared = self.preparation.encode(rows)
        matrix = xgb.DMatrix(prepared, feature_types=self.preparation.types, enable_categorical=True)
        return self.booster.predict(matrix)
