"""Replace a transformer's small operations by versions that read memory less often and save less of it.

Root-mean-square norms, gated MLPs and rotary positions are most of a decoder's work besides matrix products. Each is
replaced only if the version here computes the same values, so an unknown variant stays as it is. Replacements are
attributes of one model's modules: transformers' classes and functions, and other models, are not changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from prefzoo.engine.fused_ops import gate, norm, rotate

ROTARY = "apply_rotary_pos_emb"
MARK = "prefzoo_fused"  # attribute of the modules whose forward method was replaced


@torch.no_grad()
def install(model: Any) -> None:
    """Replace the known operations of a model, in place; its values and gradients stay the same up to rounding."""
    with_rotary: dict[Any, Callable[..., Any] | None] = {}  # replacement of each forward function, or None
    for module in model.modules():
        kind, forward = type(module).__name__, type(module).forward
        if kind.endswith("RMSNorm") and _eps(module) is not None:
            _replace(module, _norm_forward, torch.randn(3, *module.weight.shape))
        elif all(hasattr(module, f"{name}_proj") for name in ("gate", "up", "down")) and hasattr(module, "act_fn"):
            if isinstance(module.gate_proj, nn.Linear):
                _replace(module, _mlp_forward, torch.randn(3, module.gate_proj.in_features))
        elif "forward" not in vars(module):
            if forward not in with_rotary:
                with_rotary[forward] = _with_rotary(forward)
            replacement = with_rotary[forward]
            if replacement is not None:
                module.forward = MethodType(replacement, module)
                setattr(module, MARK, True)


def uninstall(model: Any) -> None:
    """Undo `install`."""
    for module in model.modules():
        if vars(module).pop(MARK, False):
            del module.forward


def _replace(module: Any, forward: Any, example: Tensor) -> None:
    """Replace a module's forward method if the new one computes the same values for an example."""
    weight = next(module.parameters())
    example, method = example.to(weight.device, weight.dtype), MethodType(forward, module)
    try:
        same = torch.allclose(method(example), module.forward(example), rtol=1e-5, atol=1e-6)
    except (RuntimeError, TypeError, AttributeError):
        return
    if same:
        module.forward = method
        setattr(module, MARK, True)


def _eps(module: Any) -> float | None:
    """Return the norm's epsilon; None if the module is not a plain norm."""
    if [name for name, _ in module.named_parameters()] != ["weight"]:
        return None
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


def _product_dtype(x: Tensor) -> torch.dtype:
    """Return the precision in which matrix products will read `x`: the lower one under autocast."""
    device = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def _norm_forward(self: Any, x: Tensor) -> Tensor:
    # matrix products read the output: cast it once here instead of once in each of them
    dtype = _product_dtype(x) if x.dtype == torch.float32 else torch.promote_types(x.dtype, self.weight.dtype)
    return norm(x, self.weight, _eps(self) or 0.0, dtype)


def _mlp_forward(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.down_proj(gate(self.gate_proj(x), self.up_proj(x)))
    return out


def _with_rotary(forward: Any) -> Callable[..., Any] | None:
    """Return a copy of an attention's forward function that calls `rotate`; None if it calls no equivalent function.

    The original looks up its rotation among the globals of its module. The copy has its own globals.
    """
    inner = inspect.unwrap(forward)
    if ROTARY not in getattr(getattr(inner, "__code__", None), "co_names", ()):
        return None
    return _copy_with_global(forward, ROTARY, rotate) if _rotates_alike(inner.__globals__.get(ROTARY)) else None


def _copy_with_global(function: Any, name: str, value: Any) -> Callable[..., Any] | None:
    """Return a copy of a function, and of the function it decorates, with one global changed; None if impossible."""
    inner, cells, names = getattr(function, "__wrapped__", None), function.__closure__ or (), function.__globals__
    attributes = dict(vars(function))
    if inner is None:
        names = {**names, name: value}
    else:
        copy = _copy_with_global(inner, name, value)
        if copy is None or not any(_holds(cell, inner) for cell in cells):
            return None
        cells = tuple(CellType(copy) if _holds(cell, inner) else cell for cell in cells)
        attributes["__wrapped__"] = copy  # inspect reads the signature from it
    copied = FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells or None)
    copied.__kwdefaults__ = function.__kwdefaults__
    vars(copied).update(attributes)
    return copied


def _holds(cell: CellType, value: Any) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # the cell is empty
        return False


def _rotates_alike(theirs: Any) -> bool:
    """Return whether a function rotates queries and keys as `rotate` does."""
    gen = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 5, 8, generator=gen) for heads in (4, 2))
    angle = torch.randn(2, 5, 4, generator=gen).repeat(1, 1, 2)
    try:
        expected = theirs(query, key, angle.cos(), angle.sin())
        ours = rotate(query, key, angle.cos(), angle.sin())
        return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(expected, ours, strict=True))
    except (RuntimeError, TypeError, ValueError):
        return False
