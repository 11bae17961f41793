"""Weights: files, names, loading, saving and the hub."""

from kerasdiffusion.weights.base import WeightsError

__all__ = ["WeightsError"]
