"""Encoders: grids of regions, weights from files, and frozen ones that stay as they are."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distgan.models.encoders import RegionEncoder, ShapesCNN, build_encoder

torchvision = pytest.importorskip("torchvision")


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_shapes_cnn_gives_a_grid_of_49(size: int) -> None:
    encoder = build_encoder("shapes_cnn", "random")
    regions = encoder.encode(torch.zeros(2, 3, size, size, dtype=torch.uint8))
    assert regions.shape == (2, 49, encoder.channels)
    assert not encoder.has_batch_norm
    assert regions.requires_grad


def test_shapes_cnn_sees_what_and_where(images: Tensor) -> None:
    torch.manual_seed(0)
    encoder = build_encoder("shapes_cnn", "random")
    blank = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    regions = encoder.encode(blank)[0]
    distances = torch.cdist(regions, regions) + torch.eye(49) * 1e9
    assert distances.min() > 1e-2  # no two places of an empty picture look the same
    dotted = blank.clone()
    dotted[..., 2:6, 50:54] = 255
    change = (encoder.encode(dotted)[0] - regions).abs().sum(-1).view(7, 7)
    row, column = divmod(int(change.argmax()), 7)
    assert row <= 1 and column >= 5  # top right, as drawn: rows first
    assert not torch.equal(encoder.encode(images)[0], encoder.encode(images)[1])


def test_pictures_are_encoded_one_by_one(images: Tensor) -> None:
    encoder = build_encoder("shapes_cnn", "random").train()
    alone = torch.cat([encoder.encode(images[:1]), encoder.encode(images[1:])])
    assert torch.allclose(encoder.encode(images), alone, atol=1e-5)


def test_a_saved_shapes_cnn_is_read_back(images: Tensor, tmp_path: Path) -> None:
    first = build_encoder("shapes_cnn", "random")
    torch.save(first.state_dict(), tmp_path / "encoder.pt")
    second = build_encoder("shapes_cnn", str(tmp_path / "encoder.pt"))
    assert torch.equal(first.encode(images), second.encode(images))


@pytest.mark.parametrize("name, channels", [("resnet18", 512), ("resnet50", 2048)])
def test_a_resnet_is_torchvisions_up_to_its_last_convolution(
    name: str, channels: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.get_model(name, weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder(name, str(tmp_path / "weights.pth"))
    image = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    regions = encoder.encode(image)
    assert regions.shape == (1, 49, channels) and encoder.channels == channels
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        want = whole(normalise(image / 255))
        got = whole.fc(regions.mean(1))  # the pooled grid through torchvision's own classifier
    assert torch.allclose(got, want, atol=1e-4, rtol=1e-3)


def test_a_frozen_resnet_never_moves(images: Tensor, tmp_path: Path) -> None:
    whole = torchvision.models.resnet18(weights=None)
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder("resnet18", str(tmp_path / "weights.pth"))
    around = torch.nn.ModuleList([encoder]).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    first = encoder.encode(images)
    assert torch.equal(first, encoder.encode(images)) and not first.requires_grad
    assert not any(module.training for module in encoder.modules())
    assert around.training and not encoder.has_batch_norm
    after = encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_random_resnet_trains_with_its_statistics(images: Tensor) -> None:
    encoder = build_encoder("resnet18", "random")
    assert isinstance(encoder, RegionEncoder) and encoder.has_batch_norm
    before = encoder.resnet.bn1.running_mean.clone()
    encoder.encode(images).square().mean().backward()
    assert not torch.equal(before, encoder.resnet.bn1.running_mean)
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_constants_are_not_saved() -> None:
    assert not {"mean", "deviation"} & set(build_encoder("resnet18", "random").state_dict())
    assert "pixel_places" not in ShapesCNN().state_dict()


def test_what_a_user_may_get_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder must be one of .* got 'vgg16'"):
        build_encoder("vgg16", "random")
    with pytest.raises(ValueError, match=r"got 'missing\.pth'"):
        build_encoder("resnet18", "missing.pth")
    with pytest.raises(ValueError, match="shapes_cnn has no imagenet weights"):
        build_encoder("shapes_cnn", "imagenet")
    torch.save(ShapesCNN().state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"encoder=resnet18 weights=.*other\.pt"):
        build_encoder("resnet18", str(tmp_path / "other.pt"))
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="hold a Tensor, not a state dict"):
        build_encoder("resnet18", str(tmp_path / "tensor.pt"))


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_weights_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match=r"trap\.pt are no state dict, or hold code"):
        build_encoder("resnet18", str(tmp_path / "trap.pt"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut short"])
def test_a_damaged_weights_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.pth are no state dict"):
        build_encoder("resnet18", str(tmp_path / "damaged.pth"))


def test_imagenet_weights_offline_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ValueError, match=r"cannot download https://.* give the path"):
        build_encoder("resnet18", "imagenet")
