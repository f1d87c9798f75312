"""Image encoders: a grid of region features from pictures, (B, 3, H, W) bytes -> (B, K, D).

`shapes_cnn` is small, has no BatchNorm and learns with the captioner; the ResNets are
torchvision's, up to the last convolution (`res5c`; 49 regions at 224 pixels). Nothing is
downloaded but for `weights=imagenet`, which asks for it by name.

Letters: B images, K regions, D channels.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

RESNETS = ("resnet18", "resnet50", "resnet101", "resnet152")
ENCODERS = ("shapes_cnn", *RESNETS)


class ShapesCNN(nn.Module):
    """Three strided convolutions and two residual ones: 64 x 64 pixels -> a 7 x 7 grid.

    Each pixel's place enters as two channels, and each region has a learned place besides, so
    that a region tells where it is. Pictures of another size are resized to 64 x 64.
    """

    has_batch_norm = False  # whether training takes statistics over a batch
    image_size = 64  # pixels
    grid = 7
    channels = 128  # D

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _block(3 + 2, 32, size=5, stride=2, padding=0),  # 64 -> 30
            _block(32, 64, size=3, stride=2, padding=0),  # 30 -> 14
            _block(64, self.channels, size=3, stride=2, padding=1),  # 14 -> 7
        )
        self.residual = nn.ModuleList(
            _block(self.channels, self.channels, size=3, stride=1, padding=1) for _ in range(2)
        )
        self.place = nn.Parameter(0.02 * torch.randn(self.grid**2, self.channels))
        self.register_buffer("pixel_places", _places(self.image_size), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 49, 128) of images uint8 (B, 3, H, W)."""
        return self(self._normalise(images))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 49, 128) of images (B, 3, 64, 64) in [-1, 1]."""
        places = self.pixel_places.expand(len(images), -1, -1, -1)
        features = self.stem(torch.cat([images, places], 1))
        for block in self.residual:
            features = features + block(features)
        return features.flatten(2).transpose(1, 2) + self.place

    def _normalise(self, images: Tensor) -> Tensor:
        images = images.to(self.place.dtype) / 127.5 - 1
        size = (self.image_size, self.image_size)
        if images.shape[-2:] == size:
            return images
        return functional.interpolate(images, size, mode="bilinear", antialias=True)


class RegionEncoder(nn.Module):
    """A torchvision ResNet without its pooling and classifier: a grid of a 32nd of the picture.

    Frozen, it stays in eval mode and its running statistics never move, whatever mode the
    network around it is put in; should its weights be tuned later, that still holds.
    """

    def __init__(self, name: str, *, frozen: bool) -> None:
        """`name`: one of `RESNETS`, random weights."""
        super().__init__()
        from torchvision import models  # here, so that the other encoder needs torch alone

        resnet = models.get_model(name, weights=None)
        self.channels: int = resnet.fc.in_features
        del resnet.avgpool, resnet.fc
        self.resnet = resnet
        self.register_buffer("mean", _channels(0.485, 0.456, 0.406), persistent=False)
        self.register_buffer("deviation", _channels(0.229, 0.224, 0.225), persistent=False)
        self.frozen = frozen
        self.has_batch_norm = not frozen
        self.requires_grad_(not frozen)
        self.train()

    def train(self, mode: bool = True) -> RegionEncoder:
        return super().train(mode and not self.frozen)

    def encode(self, images: Tensor) -> Tensor:
        """(B, K, D) of images uint8 (B, 3, H, W); K = 49 at 224 x 224 pixels."""
        return self((images.to(self.mean.dtype) / 255 - self.mean) / self.deviation)

    def forward(self, images: Tensor) -> Tensor:
        """(B, K, D) of normalised images (B, 3, H, W)."""
        r = self.resnet
        features = r.maxpool(r.relu(r.bn1(r.conv1(images))))
        features = r.layer4(r.layer3(r.layer2(r.layer1(features))))
        return features.flatten(2).transpose(1, 2)


Encoder = ShapesCNN | RegionEncoder


def build_encoder(name: str, weights: str) -> Encoder:
    """The encoder `name` of `ENCODERS`.

    `weights`: `random` (to be trained); `imagenet` (torchvision's, downloaded once, frozen); or
    the path of a state dict (frozen where the encoder is a ResNet, in torchvision's naming).
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder must be one of {list(ENCODERS)}, got {name!r}")
    if name == "shapes_cnn":
        return _build_shapes_cnn(weights)
    encoder = RegionEncoder(name, frozen=weights != "random")
    if weights != "random":
        state = _download(name) if weights == "imagenet" else _read(weights)
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
        _load(encoder.resnet, state, f"encoder={name} weights={weights}")
    return encoder


def weights_digest(encoder: nn.Module) -> str:
    """Names an encoder's weights: equal for equal ones, on any device, in float32 or float64."""
    total = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        plain = value.float() if value.is_floating_point() else value
        total.update(f"{name} {tuple(value.shape)}\n".encode())
        total.update(plain.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _build_shapes_cnn(weights: str) -> ShapesCNN:
    if weights == "imagenet":
        raise ValueError("encoder=shapes_cnn has no imagenet weights; use random or a path")
    encoder = ShapesCNN()
    if weights != "random":
        _load(encoder, _read(weights), f"encoder=shapes_cnn weights={weights}")
    return encoder


def _read(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise ValueError(
            f"encoder weights must be random, imagenet or the path of a state dict, got {path!r}"
        )
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"encoder weights {path} are no state dict, or hold code") from error
    if not isinstance(state, dict):
        raise ValueError(f"encoder weights {path} hold a {type(state).__name__}, not a state dict")
    return state


def _download(name: str) -> dict[str, Tensor]:
    from torchvision import models

    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except OSError as error:
        raise ValueError(
            f"encoder weights=imagenet: cannot download {weights.url} ({error}); "
            "give the path of that file instead"
        ) from error


def _load(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{what}: {error}") from error


def _block(channels: int, out: int, *, size: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, size, stride, padding, bias=False),
        nn.GroupNorm(8, out),
        nn.ReLU(),
    )


def _places(size: int) -> Tensor:
    """(1, 2, size, size): each pixel's column and row, from -1 to 1."""
    line = torch.linspace(-1, 1, size)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([columns, rows])[None]


def _channels(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None]
