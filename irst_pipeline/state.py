"""What parts of the pipeline remember from frame to frame, as arrays that can be stored and put back exactly."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
State = dict[str, NDArray[Any]]
"""By dotted names; numbers are arrays without dimensions."""
NONE: Final = np.empty((0, 0), bool)
"""What None is kept as, for a state to hold all names of its layout."""


class StateError(Exception):
    """A state of another layout; the message names what it lacks."""


class Stateful:
    """A class says in `kept` which of its attributes it remembers; nothing else may change as it works.

    They are arrays, numbers, None, named tuples of these, other Stateful things or a defaultdict of these.
    """

    kept: ClassVar[tuple[str, ...]]

    def state(self) -> State:
        """A copy of what it remembers now."""
        return state_of({name: getattr(self, name) for name in self.kept})

    def restore(self, state: State) -> None:
        """Go on from where another of its kind was when it gave this state; raises StateError for one of another."""
        for name in self.kept:
            setattr(self, name, restored(getattr(self, name), name, state))


def state_of(things: Mapping[str, Any]) -> State:
    """What things of any of these kinds remember, by their names."""
    state: State = {}
    for name, thing in things.items():
        if isinstance(thing, Stateful):
            inner = thing.state()
        elif hasattr(thing, "_asdict"):
            inner = state_of(thing._asdict())
        elif isinstance(thing, Mapping):
            inner = state_of(thing)
        else:
            state[name] = NONE if thing is None else np.array(thing, order="C")
            continue
        for key, value in inner.items():
            state[f"{name}.{key}"] = value
    return state


def part_of(state: Mapping[str, T], name: str) -> dict[str, T]:
    """What the thing of this name remembers."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def restored(now: Any, name: str, state: State) -> Any:
    """The thing of this name as `state` has it, of the kind that it has now; raises StateError where it lacks it."""
    inner = part_of(state, name)
    if isinstance(now, Stateful):
        now.restore(inner)
    elif isinstance(now, defaultdict):
        for key in {key.partition(".")[0] for key in inner}:
            restored(now[key], key, inner)
    elif hasattr(now, "_asdict"):
        return now._replace(**{field: restored(value, field, inner) for field, value in now._asdict().items()})
    elif (found := state.get(name)) is None:
        raise StateError(f"it lacks {name}")
    elif found.shape == NONE.shape and found.dtype == NONE.dtype:
        return None
    else:
        return found.item() if found.ndim == 0 else np.array(found)
    return now
