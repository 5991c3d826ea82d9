"""Reading typed settings from YAML: errors name the file, the key, what was expected and the nearest right key."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import ErrorDetails

from irst_pipeline.errors import UsageError

T = TypeVar("T", bound=BaseModel)


def _not_tiny(value: float) -> float:
    if value < 1e-9:
        raise ValueError("at least 1e-9")  # of less the square, or its inverse, may be no number
    return value


FiniteFloat = Annotated[float, Field(gt=-1e9, lt=1e9, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, lt=1e9, allow_inf_nan=False), AfterValidator(_not_tiny)]
NotNegative = Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=10**9)]
QUOTES_NEEDED = """a name that begins with {} needs quotes that YAML sees, in a shell '"{}.csv"'"""
YAML_MAX = 1 << 20  # letters of a file of settings; a recording given for one would fill the memory
UNKNOWN = ("extra_forbidden", "invalid_key")  # what pydantic calls a key that is not known, and one that is no word
NO_LIST = ("tuple_type", "too_long")  # what it calls a value that should be a list, and a list that is too long
SAID = {  # by what it calls a problem: what was expected, where its own words are Python's
    "model_type": "a section of keys",
    "string_type": "text",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "too_short": "at least one entry",
}


class _Loader(yaml.SafeLoader):
    """Takes true and false alone for booleans, as YAML 1.2 does: `off` is a word. A key stands once in its section."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):  # others are refused later
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key `{key.value}` is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    letter: [known for known in resolvers if known[0] != BOOLEAN]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOLEAN, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


class FileFields(BaseModel):
    """What is read from a file; true and false are refused for numbers, though Python takes them for 1 and 0."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _refuse_booleans_for_numbers(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        checked = check(value)
        if _booleans(value) != _booleans(checked):
            raise ValueError("a number")
        return checked


def _booleans(value: Any) -> int:
    """How many booleans a value is, or has in it if it is a list."""
    return sum(map(_booleans, value)) if isinstance(value, (list, tuple)) else isinstance(value, bool)


class Settings(FileFields):
    """A section of settings: immutable, and strict about keys and types."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_settings(
    kind: type[T], path: Path | None, overrides: Sequence[str] = (), flags: Mapping[str, tuple[str, Any]] | None = None
) -> T:
    """Settings of `kind` from a YAML file (defaults without one), with KEY=VALUE overrides (dotted keys, YAML values)
    and what flags of the command line say, a dotted key and its value each.

    Raises UsageError, one line, for a file that cannot be read or a key or value that does not fit.
    """
    tree, flags = read_yaml(path) if path else {}, flags or {}
    given = {key: flag for flag, (key, _) in flags.items()}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {override}: expected KEY=VALUE, as in --set tracker.coast_seconds=2")
        _place(tree, key.split("."), _parse(value, f"--set {override}"))
        given.setdefault(key, "--set")
    for key, value in flags.values():
        _place(tree, key.split("."), value)
    return validate(kind, tree, str(path) if path else "--set", given)


def validate(kind: type[T], tree: dict[str, Any], origin: str, given: Mapping[str, str] | None = None) -> T:
    """`tree` as settings of `kind`; `origin` is what an error calls its source, but for keys that are `given` by
    another, and for what is in them or around them."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        key, line = _first_problem(kind, error)
        others = (other for part, other in (given or {}).items() if _related(part, key))
        raise UsageError(f"{next(others, origin)}: {line}") from None


def _related(key: str, other: str) -> bool:
    """Whether one of two dotted keys is in the other, or both are one."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A file of text in UTF-8, whatever the locale; raises UsageError, one line, for one that cannot be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not text in UTF-8; save it so, if it is the file that was meant") from None
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        raise UsageError(f"{path}: cannot read it ({getattr(error, 'strerror', None) or error})") from None


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file of any length in UTF-8, as they are read; raises UsageError, one line, as `read_text`."""
    with _opened(path) as file:
        yield from file


def read_text(path: Path, longest: int | None = None) -> str:
    """The text of a file in UTF-8, whatever the locale; raises UsageError, one line, for one that cannot be read or is
    of more letters than that."""
    with _opened(path) as file:
        text = file.read() if longest is None else file.read(longest + 1)
    if longest is not None and len(text) > longest:
        raise UsageError(f"{path}: more than {longest} letters; is it the file that was meant?")
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """The tree in a YAML file, empty for an empty one; raises UsageError, one line, for any other file."""
    tree = _parse(read_text(path, longest=YAML_MAX), str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: expected `key: value` lines, found {type(tree).__name__}")
    return tree


def _parse(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # All but the first are how PyYAML fails on a value that is not what its tag says, or is nested too deep.
        said = str(error).replace('in "<unicode string>", ', "in ")  # which is what PyYAML calls the text of a file
        mend = f"; {QUOTES_NEEDED}" if "{}" in text else ""
        raise UsageError(f"{origin}: not valid YAML: {' '.join(said.split())}{mend}") from None


def _place(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            return  # the file has no section there, which is told
    tree[keys[-1]] = value


def _first_problem(kind: type[BaseModel], error: ValidationError) -> tuple[str, str]:
    """The first problem's key, and in words: key, what was found, what was expected, and how many more there are."""
    problems = error.errors(include_url=False)
    # Keys that are not known come first: a misspelt one is missing as well, and its section incomplete.
    # Entries that are refused leave their list too short, which is then no problem of its own.
    own = [problem for problem in problems if problem["type"] != "too_short"]
    problems = [problem for problem in problems if problem["type"] in UNKNOWN] or own or problems
    places = [_without_lacking(problem) for problem in problems]
    first, place = problems[0], places[0]
    key = ".".join(map(str, place))
    plain = ".".join(part for part in place if isinstance(part, str))
    if first["type"] in UNKNOWN:
        line = f"unknown key `{key}`; {_hint(key, list(_fields(kind)))}"
    elif first["type"] == "missing" and place == first["loc"]:
        line = f"key `{key}` is missing"
    else:
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        expected = SAID.get(first["type"], expected)
        if first["type"] in ("missing", *NO_LIST):
            expected = _list(_fields(kind).get(plain))
        found = "" if isinstance(first["input"], (dict, list)) else f", found {first['input']!r}"
        line = f"key `{key}`: expected {expected}{found}" if key else f"expected {expected}"
    others = len(set(places)) - 1
    more = f" (and {others} more)" if others else ""
    return key, " ".join(f"{line}{more}".split())  # a key may be of several lines


def _without_lacking(problem: ErrorDetails) -> tuple[int | str, ...]:
    """Where a problem is; of a list that lacks entries, the list."""
    place = problem["loc"]
    return place[:-1] if problem["type"] == "missing" and isinstance(place[-1], int) else place


def _hint(key: str, known: list[str]) -> str:
    """Which of the known keys may have been meant: one of its section that looks alike, or one so called elsewhere."""
    section, dot, name = key.rpartition(".")
    plain = re.sub(r"\.\d+\b", "", section)  # of a list's entry too, without its number
    beside = {(last := k.rpartition(".")[2]): section + dot + last for k in known if k.rpartition(".")[0] == plain}
    alike = difflib.get_close_matches(name, beside, 1) or [other for other in beside if other.startswith(name)]
    near = [beside[other] for other in alike] or [k for k in known if k.rpartition(".")[2] == name]
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(beside.values() or known)}"


def _list(kind: Any) -> str:
    """In words, the list that a key of this type takes; all that are of a set length are of numbers."""
    for child in (kind, *get_args(kind)):
        if get_origin(child) is tuple and ... not in get_args(child):
            length = len(get_args(child))
            return f"{length} numbers, as {[*range(1, length + 1)]}"
    return "a list"


def _fields(kind: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a settings class, and its type; the items of a list go without their number."""
    keys: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        child = keys[prefix + name] = field.annotation
        for section in (child, *get_args(child)):
            if isinstance(section, type) and issubclass(section, BaseModel):
                keys |= _fields(section, f"{prefix}{name}.")
    return keys
