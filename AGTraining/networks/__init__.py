"""Networks of the two papers. They know nothing of images, files or devices."""

from AGTraining.networks.attention_gate import GridAttentionGate
from AGTraining.networks.unet import AttentionUNet, SegmentationOutput, UNet3D

__all__ = ["AttentionUNet", "GridAttentionGate", "SegmentationOutput", "UNet3D"]
