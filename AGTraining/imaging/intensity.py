"""From Hounsfield units to what a network sees."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

AIR_HU = -1024.0


class IntensityRule(BaseModel):
    """z-score of clipped Hounsfield units.

    low, high: HU limits before anything else. mean, sd: HU of the training set's body voxels; where they are None
    they are taken from the image itself (its voxels above `low`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    low: float = -200.0
    high: float = 300.0
    mean: float | None = None
    sd: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> IntensityRule:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if (self.mean is None) != (self.sd is None):
            raise ValueError("give both mean and sd, or neither")
        if self.sd is not None and self.sd <= 0:
            raise ValueError("sd must be positive")
        return self

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The array (HU, any shape) as float32 z-scores; non-finite values count as air.

        A float32 array is changed in place and returned.
        """
        result = array.astype(np.float32, copy=False)
        np.nan_to_num(result, copy=False, nan=AIR_HU, posinf=self.high, neginf=AIR_HU)
        np.clip(result, self.low, self.high, out=result)
        mean, sd = self.mean, self.sd
        if mean is None or sd is None:
            body = result[result > self.low]
            mean, sd = (float(body.mean()), float(body.std())) if body.size else (0.0, 1.0)
        result -= mean
        result /= max(sd, 1e-3)
        return result
