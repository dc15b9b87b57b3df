"""Which target a pipeline's servers run on, by its file and by the stack."""

from __future__ import annotations

from tasks.base.errors import UserError
from tasks.base.settings import settings
from tasks.pipeline.schema import Serving
from tasks.serving.targets.deployment import Target


def target_for(serving: Serving) -> Target:
    """The target that a pipeline asks for, by default the stack's.

    Raises:
        UserError: This stack has no such target.
    """
    if (serving.target or settings().target) == "docker":
        return _containers()
    if settings().stack != "embedded":
        raise UserError(
            "The 'serving.target' field must be docker or null on this stack.",
            why="Only the embedded stack (./mlops up) has a supervisor for processes.",
        )
    return _processes()


def default_target() -> Target:
    """The stack's own target."""
    return target_for(Serving())


def targets_in_use(serving: Serving) -> list[Target]:
    """The targets that may hold servers of a model: the one it asks for first.

    Docker is left alone by a stack that was not told to use it: the containers that carry our
    labels there may be another stack's.
    """
    kind = serving.target or settings().target
    found = [target_for(serving)]
    if settings().stack == "embedded" and kind != "process":
        found.append(_processes())
    if settings().target == "docker" and kind != "docker":
        found.append(_containers())
    return found


def _processes() -> Target:
    from tasks.serving.targets.process import ProcessTarget

    return ProcessTarget()


def _containers() -> Target:
    from tasks.serving.targets.container import ContainerTarget

    return ContainerTarget()
