"""Registries: what a configuration may name in ``_target_``, and building it from plain values.

A reader, loss, model, backbone, augmentation, export target, logger or callback registers itself in its own file.
Configurations of runs, cards of checkpoints and sidecars of exported files come from others: they can name members of these
registries and give them plain values, and nothing else. A name does not depend on the module in which its member lies.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from seg_det.errors import UserError
from seg_det.values import Wrong, hints_of, matched, require_plain, shown

Member = TypeVar("Member", bound=Callable[..., Any])
Plain = TypeVar("Plain")
TARGET, PARTIAL = "_target_", "_partial_"
OWN = "seg_det"  # the first part of the dotted names in files of earlier versions


class Registry:
    """The members of one family by name; ``what`` is the family's word in messages, ``package`` where its members lie."""

    def __init__(self, what: str, package: str):
        self.what = what
        self.package = package
        self._members: dict[str, Callable[..., Any]] = {}
        self._complete = False

    def register(self, member: Member) -> Member:
        """Decorator: add ``member`` under its own name. Raises ValueError if another member has the name."""
        name, known = member.__name__, self._members.get(member.__name__)
        if known is not None and (known.__module__, known.__qualname__) != (member.__module__, member.__qualname__):
            raise ValueError(f"two members of {self.package} have the name {name}: {known!r} and {member!r}")
        self._members[name] = member
        return member

    def get(self, target: object) -> Callable[..., Any]:
        """The member that ``target`` names. Raises UserError for the name of anything else."""
        name = short_name(target)
        if name not in self._members:
            self._import_all()
        if name not in self._members:
            raise UserError(
                f"{shown(target)} is no {self.what} of seg_det, and nothing else is run: _target_ must be one of "
                f"{', '.join(self)}."
            )
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        """The names of all members, sorted."""
        self._import_all()
        return iter(sorted(self._members))

    def _import_all(self) -> None:
        if self._complete:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.ispkg:
                importlib.import_module(f"{self.package}.{module.name}")
        self._complete = True


READERS = Registry("reader", "seg_det.data")
AUGMENTATIONS = Registry("augmentation", "seg_det.data")
LOSSES = Registry("loss", "seg_det.losses")
MODELS = Registry("model", "seg_det.models")
BACKBONES = Registry("backbone", "seg_det.models.backbones")
TARGETS = Registry("export target", "seg_det.export")
LOGGERS = Registry("logger", "seg_det.training")
CALLBACKS = Registry("callback", "seg_det.training")


def short_name(target: object) -> str:
    """The name that a ``_target_`` means: of a dotted name of this package, as files of earlier versions have it, the last part.

    Any other dotted name stays as it is, and names no member of a registry.
    """
    name = target if isinstance(target, str) else ""
    first, _, rest = name.partition(".")
    return rest.rpartition(".")[2] if first == OWN and rest else name


def build(config: Mapping[str, Any], registry: Registry, **given: Any) -> Any:
    """What ``config`` describes: ``_target_``, a name of ``registry``, called with the other keys and with ``given``.

    With ``_partial_`` true it is the function that still waits for its other arguments. The values of ``config`` must be plain
    ones. Raises UserError.
    """
    function, settings = configured(config, registry)
    if both := [name for name in settings if name in given]:
        raise UserError(
            f"{function.__name__} is given {', '.join(both)} by the program: leave it out of the configuration."
        )
    if config.get(PARTIAL):
        return partial(function, **settings, **given)
    _require_complete(function, {**settings, **given})
    try:
        return function(**settings, **given)
    except (OSError, UnicodeError) as error:  # of a path that cannot be read
        raise UserError(
            f"{function.__name__} cannot read what its configuration names ({error}): correct the path."
        ) from error


def configured(
    config: Mapping[str, Any], registry: Registry, *, hidden: tuple[str, ...] = ()
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The member that ``config`` names and its checked arguments; ``hidden`` are arguments that no configuration gives.

    Raises UserError.
    """
    if not isinstance(config, Mapping):
        raise UserError(
            f"The configuration of a {registry.what} must be a dictionary with _target_, got {shown(config)}."
        )
    if TARGET not in config:
        raise UserError(
            f"The configuration of a {registry.what} names none: add _target_, one of {', '.join(registry)}."
        )
    if not isinstance(config.get(PARTIAL, False), bool):
        raise UserError(f"{PARTIAL} must be true or false, got {shown(config[PARTIAL])}.")
    function = registry.get(config[TARGET])
    values = {key: value for key, value in config.items() if key not in (TARGET, PARTIAL)}
    settings = arguments(function, values, hidden=hidden)
    if hidden:
        _require_complete(function, {**settings, **dict.fromkeys(hidden)})
    return function, settings


def arguments(
    function: Callable[..., Any], values: Mapping[str, Any], *, hidden: tuple[str, ...] = (), key: str = ""
) -> dict[str, Any]:
    """``values`` as arguments of ``function``, by its names and type hints; ``key`` is their section, if it has a name.

    Raises UserError that names what does not fit.
    """
    hints = hints_of(function)
    allowed = [name for name in inspect.signature(function).parameters if name not in hidden]
    if unknown := [str(name)[:80] for name in values if name not in allowed]:
        raise UserError(
            f"{key or function.__name__} takes no argument {', '.join(unknown[:8])}; it takes {', '.join(allowed)}."
        )
    places = {name: f"{key}.{name}" if key else f"{function.__name__}'s argument {name}" for name in values}
    try:
        for name, value in values.items():
            require_plain(value, places[name])
            _refuse_special(value, places[name])
        return {name: matched(value, hints.get(name, Any), places[name]) for name, value in values.items()}
    except Wrong as error:
        raise UserError(f"{error}.") from error


def _refuse_special(value: object, key: str) -> None:
    """Raise Wrong for keys that would have a value of a configuration built: nothing inside one is."""
    if isinstance(value, dict):
        for name, part in sorted(value.items(), key=lambda item: item[0] != TARGET):
            if name.startswith("_") and name.endswith("_"):
                raise Wrong(key, f"holds {name} ({shown(part)}), and no argument is built by itself")
            _refuse_special(part, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_special(part, key)


def _require_complete(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    if missing := [p.name for p in parameters if p.default is p.empty and p.name not in given]:
        raise UserError(f"{function.__name__} lacks the argument {', '.join(missing)}.")


def filled(cls: type[Plain], values: Mapping[str, Any], key: str) -> Plain:
    """The dataclass ``cls`` of plain values from a configuration, whose section is ``key``. Raises UserError."""
    try:
        require_plain(values, key)
        made: Plain = matched(values, cls, key)
        return made
    except Wrong as error:
        raise UserError(f"{error}.") from error
