"""What may move in an update: names to freeze, and low-rank changes that are merged back so that shapes stay.

Knows nothing of exemplars or losses.
"""

from collections.abc import Callable
from typing import Any

from engine.continual.method import Moving
from engine.network.model import SequenceModel

_PROJECTIONS = ["query", "key", "value", "out", "gate", "up", "down"]
_SPARE = 2
"""AdaLoRA begins with this many times the rank and gives up the least important part of it."""


def frozen(model: SequenceModel, moving: Moving) -> tuple[str, ...]:
    """Names of parameters that stay as they are; call it after `attach`."""
    names = [name for name, _ in model.named_parameters() if not name.startswith("item_")]
    last = f"blocks.{len(model.blocks) - 1}."
    match moving:
        case "finetune":
            return ()
        case "rows":
            return tuple(names)
        case "top":
            above = (last + "feed_forward", last + "norms.1", last + "gates.1", "adapters", "norm.")
            return tuple(name for name in names if not name.startswith(above))
        case "lora" | "adalora":
            return tuple(name for name in names if ".lora_" not in name)
        case "adapter":
            if not model.config.adapter:
                raise ValueError("the model has no bottlenecks: give its config a width of `adapter`")
            return tuple(name for name in names if not name.startswith("adapters."))


def attach(model: SequenceModel, moving: Moving, rank: int, steps: int) -> Callable[[int], None] | None:
    """Adds low-rank changes to the projections of the blocks where the method has them; at first they change nothing.

    Args:
        model: Changed in place.
        moving: What may move.
        rank: Of each change; under AdaLoRA the mean over all of them.
        steps: Of the update, over which AdaLoRA lays its budget.

    Returns:
        What has to be called with each step's number while its gradients are there, under AdaLoRA.
    """
    if moving not in {"lora", "adalora"}:
        return None
    from peft import AdaLoraConfig, LoraConfig  # seconds to import, and few updates need it
    from peft.tuners.adalora import AdaLoraModel
    from peft.tuners.lora import LoraModel

    if moving == "lora":
        LoraModel(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=_PROJECTIONS), "default")
        return None
    config = AdaLoraConfig(
        init_r=_SPARE * rank,
        target_r=rank,
        lora_alpha=2 * rank,
        target_modules=_PROJECTIONS,
        tinit=steps // 10,
        tfinal=steps // 2,
        deltaT=max(steps // 50, 1),
        total_step=max(steps, 3),
    )
    allocate: Callable[[int], None] = AdaLoraModel(model, config, "default").update_and_allocate
    return allocate


def merge(model: SequenceModel) -> None:
    """Adds the low-rank changes to the layers they belong to and takes them away: scores stay the same."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, BaseTunerLayer):
                changed: Any = layer
                changed.merge()
                setattr(parent, name, changed.get_base_layer())
