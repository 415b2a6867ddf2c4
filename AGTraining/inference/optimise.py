"""A trained network rewritten for fast inference: the same function, less arithmetic and less memory.

What is rewritten (each step is algebra; only rounding differs):
- batch norm is folded into the convolution before it;
- conv(cat(skip, up)) = conv_a(skip) + conv_b(up), so the concatenation at full size is never made;
- the sub-gates' θ become one convolution, their φ another; each sub-gate's W and its slice of the gate's fusing
  convolution become one matrix;
- each deep supervision head and its slice of the fusing convolution become one matrix, applied before upsampling;
- the class maps are upsampled by one small matrix product an axis;
- the finest decoder level is computed slab by slab, so that its activations never exist at full size.
Weights and activations are channels-last where the device gains from it, and bfloat16 or float16 where it is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining.inference.device import has_native_bfloat16
from AGTraining.networks import AttentionUNet, GridAttentionGate, SegmentationOutput, UNet3D
from AGTraining.networks.attention_gate import SubGate
from AGTraining.networks.unet import LEFT_OUT, ConvBlock

# Convolutions of the finest decoder level take a part of a second on two CPU cores: a cancellation waits for one.
SLAB_VOXELS = 1_000_000


def prepare_for_inference(
    network: UNet3D,
    device: torch.device | str,
    mixed_precision: bool | None = None,
    check: Callable[[], None] | None = None,
) -> InferenceUNet:
    """The network as an `InferenceUNet` on the device; the given network stays as it is.

    mixed_precision: True or False, or None to take it where the device is both safe and faster with it
        (`inference_dtype`).
    check: called before each convolution; what it raises (a cancellation) ends the forward pass.
    Raises TypeError for a network that is neither a UNet3D nor an AttentionUNet: a subclass may compute something else.
    """
    if type(network) not in (UNet3D, AttentionUNet):
        raise TypeError(f"cannot prepare a {type(network).__name__}; expected a UNet3D or an AttentionUNet")
    device = torch.device(device)
    return InferenceUNet(network, device, inference_dtype(device, mixed_precision), check)


def inference_dtype(device: torch.device, mixed_precision: bool | None = None) -> torch.dtype:
    """The number type of weights and activations on a device; logits and coefficients are float32 always.

    None: bfloat16 where the GPU or CPU computes with it in hardware (its range is that of float32, so nothing
    overflows), float16 on older GPUs with tensor cores, float32 elsewhere. MPS is float32 too unless asked: its 3-D
    convolutions in half precision are not known to be safe.
    """
    if mixed_precision is False:
        return torch.float32
    if has_native_bfloat16(device):
        return torch.bfloat16
    if device.type == "cuda":
        tensor_cores = torch.cuda.get_device_capability(device)[0] >= 7
        return torch.float16 if mixed_precision or tensor_cores else torch.float32
    if mixed_precision:
        return torch.bfloat16 if device.type == "cpu" else torch.float16
    return torch.float32


class InferenceUNet(nn.Module):
    """What `prepare_for_inference` returns: forward only, evaluation mode, no gradients.

    in_channels, num_classes, divisor: as of the network it came from. dtype: of weights and activations.
    """

    def __init__(
        self, network: UNet3D, device: torch.device, dtype: torch.dtype, check: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self.in_channels = network.in_channels
        self.num_classes = network.num_classes
        self.divisor = network.divisor
        self.dtype = dtype
        self.memory_format = torch.contiguous_format if device.type == "mps" else torch.channels_last_3d
        self.encoder = nn.ModuleList(_Encoder(cast(ConvBlock, block)) for block in network.encoder)
        self.decoder = nn.ModuleList(
            _Decoder(cast(ConvBlock, block), channels)
            for block, channels in zip(network.decoder, network.features, strict=False)
        )
        gates = network.gates if isinstance(network, AttentionUNet) else ()
        self.gates = nn.ModuleList(_Gate(cast(GridAttentionGate, gate)) for gate in gates)
        gating = network.gating if isinstance(network, AttentionUNet) else None
        self.gating = None if gating is None else _folded(gating)
        heads, bias = _merge_heads(network)
        for left_out in network.left_out:
            bias[left_out] = LEFT_OUT
            for head in heads:
                head[left_out] = 0.0
        self.to(device=device, dtype=dtype, memory_format=self.memory_format)  # type: ignore[call-overload]
        # Cast apart: the bias is added in float32, and only the finest head works on activations of full size.
        self.bias = nn.Parameter(bias.to(device, torch.float32))
        self.heads = nn.ParameterList(
            head.to(device, dtype if n == 0 else torch.float32) for n, head in enumerate(heads)
        )
        self.requires_grad_(False).eval()
        if check is not None:
            for module in self.modules():
                if isinstance(module, nn.Conv3d):
                    module.register_forward_pre_hook(lambda *_: check())

    @torch.no_grad()
    def forward(self, x: Tensor, attention: bool = False) -> Tensor | SegmentationOutput:
        """x: (N, in_channels, D, H, W), D, H, W multiples of `divisor`, on the network's device.

        Returns the logits (N, num_classes, D, H, W), float32; with `attention` a SegmentationOutput whose coefficients
        are float32 too. Raises ValueError for an input that does not fit.
        """
        if x.dim() != 5 or x.shape[1] != self.in_channels:
            raise ValueError(f"input of shape {tuple(x.shape)}; expected (N, {self.in_channels}, D, H, W)")
        if any(n % self.divisor for n in x.shape[2:]):
            raise ValueError(f"input size {tuple(x.shape[2:])} must be multiples of {self.divisor}; pad it first")
        x = x.to(dtype=self.dtype, memory_format=self.memory_format)
        skips: list[Tensor] = []
        for n, encoder in enumerate(self.encoder):
            x = encoder(x if n == 0 else F.max_pool3d(x, 2))
            skips.append(x)
        skips.pop()
        gating = x if self.gating is None else self.gating(x).relu_()
        coefficients: dict[str, Tensor] = {}
        maps: list[Tensor] = []
        for n in reversed(range(1, len(self.decoder))):
            skip = skips.pop()
            if len(self.gates):
                skip, alpha = self.gates[n - 1](skip, gating)
                if attention:
                    of_level = {f"level{n + 1}.gate{m}": a for m, a in enumerate(alpha.split(1, dim=1), 1)}
                    coefficients = of_level | coefficients
            x = self.decoder[n](skip, x)
            del skip
            gating = x
            if n < len(self.heads):
                maps.append(_class_map(x, self.heads[n], None if maps else self.bias))
        logits = self._finest_level(skips.pop(), x, None if maps else self.bias)
        if maps:
            logits += _upsample_and_add(maps, logits.shape[2:])
        if not attention:
            return logits
        return SegmentationOutput(logits, coefficients, ())

    def _finest_level(self, skip: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        """The finest decoder level and its head, float32 (N, classes, D, H, W), slab by slab along D."""
        n, _, depth, height, width = skip.shape
        logits = torch.empty((n, self.num_classes, depth, height, width), dtype=torch.float32, device=skip.device)
        decoder = cast(_Decoder, self.decoder[0])
        # Even, so that a slab starts on a row of the coarser level.
        rows = max(2, SLAB_VOXELS // (n * height * width) // 2 * 2)
        for start in range(0, depth, rows):
            stop = min(start + rows, depth)
            # Two rows around the slab feed its two convolutions; the outermost of what they give is dropped.
            low, high = max(0, start - 2), min(depth, stop + 2)
            coarse = _upsample_rows(x, low, high)
            y = decoder.convolve(skip[:, :, low:high].contiguous(memory_format=self.memory_format), coarse)
            logits[:, :, start:stop] = _class_map(y[:, :, start - low : stop - low], self.heads[0], bias)
        return logits


def _upsample_rows(x: Tensor, low: int, high: int) -> Tensor:
    """Rows low to high (along D) of x upsampled trilinearly by two; low and high are even."""
    first, last = max(0, low // 2 - 1), min(x.shape[2], high // 2 + 1)
    up = F.interpolate(x[:, :, first:last], scale_factor=2.0, mode="trilinear", align_corners=False)
    return up[:, :, low - 2 * first : high - 2 * first]


class _Encoder(nn.Module):
    """ConvBlock with its batch norms folded."""

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        self.first = _folded(block)
        self.second = _folded(block, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu_()).relu_()


class _Decoder(nn.Module):
    """The decoder's ConvBlock on (skip, coarser level) without their concatenation."""

    def __init__(self, block: ConvBlock, skip_channels: int) -> None:
        super().__init__()
        first = _folded(block)
        self.skip = _convolution(first.weight[:, :skip_channels], first.bias, padding=1)
        self.coarse = _convolution(first.weight[:, skip_channels:], None, padding=1)
        self.second = _folded(block, 3)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        return self.convolve(skip, F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False))

    def convolve(self, skip: Tensor, upsampled: Tensor) -> Tensor:
        y = self.coarse(upsampled)
        y += self.skip(skip)
        return self.second(y.relu_()).relu_()


class _Gate(nn.Module):
    """A GridAttentionGate whose gating signal lies on θ's grid, as it does in a U-Net.

    fuse(cat(Wᵢ(αᵢ·x))) = ReLU(Σ Mᵢ(αᵢ·x) + b), with Mᵢ the product of Wᵢ and the i-th slice of the fusing matrix.
    """

    def __init__(self, gate: GridAttentionGate) -> None:
        super().__init__()
        gates = [cast(SubGate, g) for g in gate.gates]
        self.normalisation = gates[0].normalisation
        self.theta = _convolution(torch.cat([g.theta.weight for g in gates]), None, stride=2)
        self.phi = _convolution(torch.cat([g.phi.weight for g in gates]), torch.cat([_bias(g.phi) for g in gates]))
        scores = torch.block_diag(*(g.psi.weight.flatten(1) for g in gates))
        self.psi = _convolution(scores[..., None, None, None], torch.cat([_bias(g.psi) for g in gates]))
        fuse = _folded(gate.fuse)
        transforms = [_folded(g.output) for g in gates]
        slices = fuse.weight.double().flatten(1).chunk(len(gates), dim=1)
        bias = _bias(fuse).double()
        self.outputs = nn.ModuleList()
        for part, transform in zip(slices, transforms, strict=True):
            product = part @ transform.weight.double().flatten(1)
            bias = bias + part @ _bias(transform).double()
            self.outputs.append(_convolution(product[..., None, None, None], None))
        self.bias = nn.Parameter(bias.float())
        self.residual = gate.residual

    def forward(self, x: Tensor, gating: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the gated x and the coefficients of all sub-gates, float32 (N, m, D, H, W)."""
        score = self.psi((self.theta(x) + self.phi(gating)).relu_()).float()
        if self.normalisation == "sigmoid":
            alpha = torch.sigmoid(score)
        else:
            alpha = torch.softmax(score.flatten(2), dim=2).view_as(score) * score[0, 0].numel()
        alpha = _upsample_and_add([alpha.contiguous()], x.shape[2:])
        weights = alpha.to(x.dtype)
        y = self.bias[:, None, None, None]
        for m, output in enumerate(self.outputs):
            part = output(weights[:, m : m + 1] * x)
            y = part.add_(y)
        y = y.relu_()
        return y.add_(x) if self.residual else y, alpha


def _class_map(x: Tensor, head: Tensor, bias: Tensor | None) -> Tensor:
    """The 1×1×1 convolution of x by the matrix `head` (classes, channels); the bias is added in its own number type."""
    y = F.linear(x.permute(0, 2, 3, 4, 1).to(head.dtype), head).permute(0, 4, 1, 2, 3)
    return y if bias is None else y + bias[:, None, None, None]


def _upsample_and_add(maps: list[Tensor], size: torch.Size) -> Tensor:
    """Each map, (N, C, d, h, w), upsampled trilinearly (align_corners=False) to the size; their sum.

    Trilinear upsampling is one matrix product an axis. The last and largest is shared: [a b]·[A; B] = aA + bB.
    """
    depth, height, width = size
    parts, matrices = [], []
    for x in maps:
        n, channels, d, h, w = x.shape
        x = torch.matmul(_interpolation(d, depth, x), x.reshape(n * channels, d, h * w))
        x = torch.matmul(_interpolation(h, height, x), x.view(n * channels * depth, h, w))
        parts.append(x.view(n * channels * depth * height, w))
        matrices.append(_interpolation(w, width, x).T)
    total = parts[0] @ matrices[0] if len(maps) == 1 else torch.cat(parts, dim=1) @ torch.cat(matrices)
    return total.view(n, channels, depth, height, width)


def _interpolation(short: int, long: int, like: Tensor) -> Tensor:
    """The matrix (long, short) that upsamples along one axis; its entries are exact."""
    eye = torch.eye(short, dtype=like.dtype, device=like.device)
    return F.interpolate(eye[None], scale_factor=long / short, mode="linear", align_corners=False)[0].T


def _merge_heads(network: UNet3D) -> tuple[list[Tensor], Tensor]:
    """Heads and fusing convolution as one matrix (classes, channels) a level, finest first, and one bias."""
    heads = [cast(nn.Conv3d, head) for head in network.heads]
    weights = [head.weight.detach().double().flatten(1) for head in heads]
    biases = [_bias(head).detach().double() for head in heads]
    if network.fuse is None:
        return [weights[0].float()], biases[0].float()
    slices = network.fuse.weight.detach().double().flatten(1).chunk(len(heads), dim=1)
    total = _bias(network.fuse).detach().double()
    for part, bias in zip(slices, biases, strict=True):
        total = total + part @ bias
    return [(part @ weight).float() for part, weight in zip(slices, weights, strict=True)], total.float()


def _folded(layers: nn.Sequential, first: int = 0) -> nn.Conv3d:
    """One convolution for layers[first], a convolution, and layers[first + 1], its batch norm (running statistics)."""
    convolution, norm = cast(nn.Conv3d, layers[first]), cast(nn.BatchNorm3d, layers[first + 1])
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
    weight = convolution.weight.double() * scale[:, None, None, None, None]
    bias = (_bias(convolution).double() - mean.double()) * scale + norm.bias.double()
    return _convolution(weight, bias, padding=int(convolution.padding[0]))


def _bias(convolution: nn.Conv3d) -> Tensor:
    return cast(Tensor, convolution.bias)


def _convolution(weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0) -> nn.Conv3d:
    """A float32 convolution with copies of the weights (out, in, k, k, k)."""
    out_channels, in_channels, kernel = weight.shape[:3]
    has_bias = bias is not None
    convolution = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=has_bias, device=weight.device)
    with torch.no_grad():
        convolution.weight.copy_(weight)
        if bias is not None:
            _bias(convolution).copy_(bias)
    return convolution
