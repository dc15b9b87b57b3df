"""Which target a pipeline's servers run on: its file and the stack decide."""

from __future__ import annotations

from typing import Literal

from tasks.base.errors import UserError
from tasks.base.settings import settings
from tasks.pipeline.schema import Serving
from tasks.serving.targets.deployment import Target

Kind = Literal["process", "docker"]


def target_for(serving: Serving) -> Target:
    """The target that a pipeline asks for, by default the stack's.

    Raises:
        UserError: This stack has no such target.
    """
    kind = kind_of(serving)
    if kind == "process" and settings().stack != "embedded":
        raise UserError(
            "The 'serving.target' field must be docker or null on this stack.",
            why="Only the embedded stack (./mlops up) has a supervisor for processes.",
        )
    return _target(kind)


def kind_of(serving: Serving) -> Kind:
    """The kind of target that a pipeline asks for, by default the stack's."""
    return serving.target or settings().target


def targets_in_use(serving: Serving) -> dict[Kind, Target]:
    """The targets that may hold servers of a model: the one it asks for first.

    A stack that was not set up for Docker leaves it alone: the containers that carry our labels
    there may be another stack's.
    """
    targets = {kind_of(serving): target_for(serving)}
    if settings().stack == "embedded":
        targets.setdefault("process", _target("process"))
    if settings().target == "docker":
        targets.setdefault("docker", _target("docker"))
    return targets


def _target(kind: Kind) -> Target:
    if kind == "docker":
        from tasks.serving.targets.container import ContainerTarget

        return ContainerTarget()
    from tasks.serving.targets.process import ProcessTarget

    return ProcessTarget()
