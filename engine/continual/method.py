"""A method of continual learning by name: what may move in an update, and what holds the rest back.

Knows nothing of how an update is run. Item rows move under every method: a new item has nothing else.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

Moving = Literal["finetune", "rows", "top", "lora", "adalora", "adapter"]
"""Everything; item rows only; what follows the last block's attention; low-rank changes of the projections, of fixed
rank (Hu et al. 2021) or with the rank spent where it matters (Zhang et al. 2023); a bottleneck after each block
(Houlsby et al. 2019)."""
Exemplars = Literal["none", "replay", "reservoir", "herding"]
"""Old histories that are learned again: drawn from all of them, from a bounded even sample, or those whose states are
nearest to the mean state before their item (ADER, Mi et al. 2020)."""

_MOVING: Final = get_args(Moving)
_EXEMPLARS: Final = get_args(Exemplars)[1:]
_GUARDS: Final = ("distillation", "ewc", "dropout")


@dataclass(frozen=True)
class Method:
    """What moves, what is replayed, and what pulls back; the parts compose."""

    moving: Moving = "finetune"
    exemplars: Exemplars = "replay"
    distillation: float = 0.0
    """Weight of staying near the last version's distribution, before it adapts to the sizes; 0 is without."""
    ewc: float = 0.0
    """Weight of staying near the last version's parameters, by importance; 0 is without."""
    dropout: float | None = None
    """Share of values zeroed in updates; the model's own where not given."""
    rank: int = 4
    """Of low-rank changes; width of bottlenecks."""
    capacity: int = 30_000
    """Exemplars kept by `reservoir` and `herding`."""

    @classmethod
    def of(cls, name: str) -> "Method":
        """The method of parts joined by `+`: one that moves, at most one kind of exemplars, any guards.

        Raises:
            ValueError: A part has no meaning, or two exclude each other.

        >>> Method.of("lora+herding+distillation")
        Method(moving='lora', exemplars='herding', distillation=1.0, ewc=0.0, dropout=None, rank=4, capacity=30000)
        """
        parts = name.split("+")
        moving = [part for part in parts if part in _MOVING]
        exemplars = [part for part in parts if part in _EXEMPLARS]
        if wrong := [part for part in parts if part not in (*_MOVING, *_EXEMPLARS, *_GUARDS)]:
            raise ValueError(f"{wrong[0]!r} is none of {', '.join((*_MOVING, *_EXEMPLARS, *_GUARDS))}")
        if len(moving) > 1 or len(exemplars) > 1:
            raise ValueError(f"{name} has two of a kind: name one of {', '.join(moving if moving[1:] else exemplars)}")
        method = cls(exemplars="none")
        for part in moving:
            method = replace(method, moving=part)  # type: ignore[arg-type]  # one of _MOVING
        for part in exemplars:
            method = replace(method, exemplars=part)  # type: ignore[arg-type]  # one of _EXEMPLARS
        return replace(
            method,
            distillation=1.0 if "distillation" in parts else 0.0,
            ewc=1.0 if "ewc" in parts else 0.0,
            dropout=0.3 if "dropout" in parts else None,
        )
