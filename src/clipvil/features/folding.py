"""Batch norms folded into the convolutions before them, for encoders that run in half precision.

In evaluation a batch norm is one factor and one offset a channel, which a convolution can carry itself (Jacob et al.
2018, section 3.2, without the quantisation). In bfloat16 a norm reads and writes the whole map to do next to nothing:
without it a CLIP RN50 encodes a third more pictures a second.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_AGREE = 1e-3
"""Largest difference, relative to the largest value, between the folded network and the network as it was."""


def fold_batch_norms(module: nn.Module, pixels: Tensor) -> nn.Module:
    """A copy of a frozen float32 network in which convolutions carry the batch norms that follow them.

    Which norm follows which convolution is seen in one pass over `pixels` (B, 3, H, W), whatever the network's code
    looks like; a second pass checks the copy. Where it disagrees (a map that is also used before its norm), or where
    there is nothing to fold, the network itself is returned.
    """
    pairs = _pairs(module, pixels)
    if not pairs:
        return module
    folded = copy.deepcopy(module)
    for convolution, norm in pairs:
        _fold(folded, convolution, norm)
    return folded if _agree(_outputs(module, pixels), _outputs(folded, pixels)) else module


def _pairs(module: nn.Module, pixels: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the norms that take their maps, each used once in the pass."""
    # The maps are kept until the pass is over: a number of a freed one would be given to the next.
    maps: dict[int, tuple[str, Tensor]] = {}
    seen: list[tuple[str, str]] = []
    calls: dict[str, int] = {}
    hooks = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):

            def note(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                maps[id(output)] = (name, output)
                calls[name] = calls.get(name, 0) + 1

            hooks.append(part.register_forward_hook(note))
        elif isinstance(part, nn.BatchNorm2d) and part.track_running_stats:

            def match(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                calls[name] = calls.get(name, 0) + 1
                if id(inputs[0]) in maps:
                    seen.append((maps[id(inputs[0])][0], name))

            hooks.append(part.register_forward_pre_hook(match))
    try:
        _outputs(module, pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in seen if all(calls[name] == 1 for name in pair)]


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    conv, bn = module.get_submodule(convolution), module.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
    assert bn.running_mean is not None and bn.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach(), requires_grad=False)
    parent, _, leaf = norm.rpartition(".")
    # timm's norms carry their activation; what is left of them is that.
    rest = [part for name in ("drop", "act") if isinstance(part := getattr(bn, name, None), nn.Module)]
    setattr(module.get_submodule(parent), leaf, nn.Sequential(*rest) if rest else nn.Identity())


def _outputs(module: nn.Module, pixels: Tensor) -> list[Tensor]:
    with torch.no_grad():
        out = module(pixels)
    parts: Iterable[object] = out if isinstance(out, (tuple, list)) else (out,)
    return [part for part in parts if isinstance(part, Tensor)]


def _agree(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= _AGREE * max(float(a.abs().max()), 1e-12)
        for a, b in zip(before, after, strict=True)
    )
