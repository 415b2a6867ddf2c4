"""Attention-gated networks for medical images: networks, inference, training, evaluation.

Needs no Slicer. Methods: Oktay et al. 2018 (Attention U-Net, arXiv 1804.03999) and
Schlemper et al. 2019 (Attention Gated Networks, Medical Image Analysis 53).
"""

__version__ = "0.1.0"
