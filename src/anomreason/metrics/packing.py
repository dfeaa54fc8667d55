"""Linear layers on a CPU through oneDNN with weights laid out once, and GELU done in passing.

Knows nothing of texts. PyTorch's own linear layer lays the weights out anew in every call, or hands them to a library
that is slow on some processors; this is what `torch.compile` with freezing gains for an encoder, without compiling.

    >>> pack(model)
"""

from __future__ import annotations

from typing import Any

_SAFE = frozenset(
    {"bert", "camembert", "distilbert", "electra", "mpnet", "mt5", "roberta", "t5", "umt5", "xlm-roberta"}
)
"""Model types whose linear layers are only ever called. Others read the weights, which are gone afterwards."""
_FEED_FORWARD = (("lin1", "activation"), ("dense", "intermediate_act_fn"))
"""Names under which a linear layer and the activation right after it stand in one module."""


def pack(model: Any) -> bool:
    """Repack the linear layers in place for inference in their own precision; False where that cannot be done."""
    import torch

    kind, dtype = model.config.model_type, next(model.parameters()).dtype
    if kind not in _SAFE or model.device.type != "cpu" or not _supported(dtype):
        return False
    for module in list(model.modules()):
        for linear, activation in _FEED_FORWARD:
            follows = type(getattr(module, activation, None)).__name__ == "GELUActivation"
            if follows and type(getattr(module, linear, None)) is torch.nn.Linear:
                _repack(getattr(module, linear), "gelu")
                setattr(module, activation, torch.nn.Identity())
    for module in model.modules():
        if type(module) is torch.nn.Linear and module.weight is not None:
            _repack(module, "none")
    return True


def _supported(dtype: Any) -> bool:
    import torch

    operations = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(operations, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return bool(operations._is_mkldnn_bf16_supported())
    return bool(dtype == torch.float32)


def _repack(linear: Any, after: str) -> None:
    """after: `gelu` (the exact one, by erf) or `none`."""
    import torch

    apply = torch.ops.mkldnn._linear_pointwise
    weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous(), None)
    bias = None if linear.bias is None else linear.bias.detach()

    def forward(hidden: Any) -> Any:
        return apply(hidden, weight, bias, after, [], "none")

    linear.forward = forward
    linear.weight = None
