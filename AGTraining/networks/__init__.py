"""Networks of the two papers. They know nothing of images, files or devices."""

from AGTraining.networks.attention_gate import GridAttentionGate
from AGTraining.networks.plane_gate import PlaneGate
from AGTraining.networks.sononet import AGSononet, PlaneOutput, Sononet
from AGTraining.networks.unet import AttentionUNet, SegmentationOutput, UNet3D

__all__ = [
    "AGSononet",
    "AttentionUNet",
    "GridAttentionGate",
    "PlaneGate",
    "PlaneOutput",
    "SegmentationOutput",
    "Sononet",
    "UNet3D",
]
