"""The same networks in PyTorch: peers in speed, and references for equality.

Tensor names are those of the published weights, so that one state dict fits both sides.
"""

import torch
from torch import nn
from torch.nn import functional

from jaxreloc.models.backbones import efficientnet_lite, resnet

RESNET_BLOCKS = {"resnet18": resnet.RESNET18_BLOCKS, "resnet34": resnet.RESNET34_BLOCKS}


class BasicBlock(nn.Module):
    def __init__(self, channels: int, features: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample = nn.Identity()
        if stride != 1 or channels != features:
            conv = nn.Conv2d(channels, features, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return functional.relu(y + self.downsample(x), inplace=True)


class ResNet(nn.Module):
    """Normalised images [B, 3, H, W] to pooled features."""

    def __init__(self, blocks: tuple[int, ...]):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, count in enumerate(blocks):
            features = 64 * 2**stage
            layers = []
            for i in range(count):
                layers.append(BasicBlock(channels, features, 2 if stage > 0 and i == 0 else 1))
                channels = features
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.features = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.max_pool2d(x, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean((2, 3))


class SameConv2d(nn.Conv2d):
    """A convolution of odd size and stride 1 or 2 with TensorFlow's "SAME" padding."""

    def __init__(self, channels: int, features: int, size: int, stride: int, groups: int = 1):
        padding = size // 2 if stride == 1 else 0
        super().__init__(channels, features, size, stride, padding, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride[0] == 2:
            width, height = (self.kernel_size[0] - 2 + int(n) % 2 for n in x.shape[:1:-1])
            pads = (width // 2, width - width // 2, height // 2, height - height // 2)
            x = functional.pad(x, pads)
        return super().forward(x)


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, features: int, size: int, stride: int, expansion: int):
        super().__init__()
        hidden = channels * expansion
        norm = efficientnet_lite.EPSILON
        if expansion != 1:
            self._expand_conv = nn.Conv2d(channels, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=norm)
        self._depthwise_conv = SameConv2d(hidden, hidden, size, stride, hidden)
        self._bn1 = nn.BatchNorm2d(hidden, eps=norm)
        self._project_conv = nn.Conv2d(hidden, features, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(features, eps=norm)
        self.expands = expansion != 1
        self.has_shortcut = stride == 1 and channels == features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        if self.expands:
            y = functional.relu6(self._bn0(self._expand_conv(y)), inplace=True)
        y = functional.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """Normalised images [B, 3, H, W] to pooled features; `_fc` classifies them."""

    def __init__(self):
        super().__init__()
        norm = efficientnet_lite.EPSILON
        channels = efficientnet_lite.STEM_FEATURES
        self._conv_stem = SameConv2d(3, channels, 3, 2)
        self._bn0 = nn.BatchNorm2d(channels, eps=norm)
        blocks = []
        for count, features, size, first_stride, expansion in efficientnet_lite.STAGES:
            for i in range(count):
                stride = first_stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, features, size, stride, expansion))
                channels = features
        self._blocks = nn.Sequential(*blocks)
        self.features = efficientnet_lite.POOLED_FEATURES
        self._conv_head = nn.Conv2d(channels, self.features, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(self.features, eps=norm)
        self._fc = nn.Linear(self.features, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        x = self._blocks(x)
        x = functional.relu6(self._bn1(self._conv_head(x)), inplace=True)
        return x.mean((2, 3))


class Siamese(nn.Module):
    """The paper's network: normalised image pairs to translation and quaternion."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.hidden = nn.Linear(2 * backbone.features, 1024, bias=False)
        self.norm = nn.BatchNorm1d(1024)
        self.translation = nn.Linear(1024, 3)
        self.quaternion = nn.Linear(1024, 4)

    def forward(
        self, db_images: torch.Tensor, query_images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(torch.cat([db_images, query_images]))
        both = torch.cat(features.chunk(2), dim=1)
        hidden = functional.relu(self.norm(self.hidden(both)))
        return self.translation(hidden), self.quaternion(hidden)


def build_backbone(name: str) -> nn.Module:
    """A backbone of `jaxreloc.models.build.BACKBONES`, in channels-last memory format."""
    if name == "efficientnet_lite0":
        backbone = EfficientNetLite0()
    else:
        backbone = ResNet(RESNET_BLOCKS[name])
    return backbone.to(memory_format=torch.channels_last)
