"""A pickle read without running anything of it.

A pickle is a program: it names functions and has them called. Here it is taken as a list of instructions
(`pickletools.genops`), and none of the names in it is ever looked up. Plain values and containers are rebuilt, and
what a caller's own makers understand; any other object becomes a `Skipped`, which does nothing.
"""

from __future__ import annotations

import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Names of the standard library that trainers leave in checkpoints. A file that asks for any other is refused: it may
# have been made to do harm.
_HARMLESS_MODULES = {
    *("_codecs", "abc", "argparse", "collections", "copyreg", "dataclasses", "datetime", "decimal", "enum"),
    *("fractions", "itertools", "logging", "numbers", "pathlib", "random", "re", "time", "typing", "uuid", "weakref"),
}
_HARMLESS_NAMES = {
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range"),
    *("set", "slice", "str", "tuple", "type"),
}
_PARTIAL = "functools.partial"


MOST_STEPS = 20_000_000  # of one pickle; Stable Diffusion's takes less than 100,000
MOST_NUMBERED = 10_000  # entries of a dictionary with numbers as keys, which can be chosen so that all collide


class PickleError(ValueError):
    """The pickle is damaged, or asks for something that no data need."""


@dataclass(frozen=True)
class Skipped:
    """An object that was not rebuilt; `kind` is the name of its class or function."""

    kind: str


@dataclass(frozen=True)
class Name:
    """A class or function that the file names. It is never looked up."""

    full: str


class _Mark:
    """Where the arguments of an instruction begin on the stack."""


class InertReader:
    """The instructions of one pickle, carried out on plain values and those of this module alone.

    Args:
        stream: with `read` and `readline`; left behind the pickle's end.
        makers: by full name, what stands in for the few classes and functions that are understood. It gets the
            arguments in the file, whatever they are, and returns None for those that it does not know.
        persistent: the value of an object that is kept outside the pickle, by its identity.
    """

    def __init__(self, stream: Any, makers: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]) -> None:
        self.stream, self.makers, self.persistent = stream, makers, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        for number, (code, argument, _) in enumerate(pickletools.genops(self.stream)):
            if number > MOST_STEPS:
                raise PickleError(f"it has more than {MOST_STEPS} instructions")
            if code.name == "STOP":
                return self.stack.pop()
            step = _STEPS.get(code.name)
            if step is None:
                raise PickleError(f"it has an instruction {code.name}, which no checkpoint needs")
            step(self, argument)
        raise PickleError("it ends in the middle")

    def marked(self) -> list[Any]:
        """Takes what lies above the last mark off the stack, and the mark."""
        at = next(i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _Mark)
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise PickleError("it names a class by something else than words")
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full, root = f"{module}.{name}", module.partition(".")[0]
        known = root in _HARMLESS_MODULES or (module == "builtins" and name in _HARMLESS_NAMES) or full == _PARTIAL
        if root in sys.stdlib_module_names and not known:
            raise PickleError(f"it asks for {full}, which no weights need; nothing of it was run")
        self.push(Name(full))

    def call(self, made_by: Any, arguments: Any) -> None:
        """The value that a class or function would give, where it is one of those that make tensors."""
        make = self.makers.get(made_by.full) if isinstance(made_by, Name) else None
        value = make(*arguments) if make is not None and type(arguments) is tuple else None
        kind = made_by.full if isinstance(made_by, Name) else getattr(made_by, "kind", "an unknown object")
        self.push(Skipped(kind) if value is None else value)

    def fill(self, pairs: list[Any]) -> None:
        """Sets the items of the dictionary on the stack; those of a skipped one go with it."""
        if isinstance(self.stack[-1], dict):
            set_items(self.stack[-1], zip(pairs[::2], pairs[1::2], strict=True))

    def extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)


def skipped_kinds(value: Any, limit: int = 100_000) -> list[str]:
    """Kinds of the objects that were skipped anywhere in `value`, each once and in order of appearance."""
    found: dict[str, None] = {}
    seen: set[int] = set()
    waiting = [value]
    while waiting and len(seen) < limit:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Skipped):
            found[one.kind] = None
        elif isinstance(one, Name):
            found[one.full] = None
        elif isinstance(one, dict):
            waiting += [*reversed(one.values()), *reversed(one.keys())]
        elif isinstance(one, (list, tuple)):
            waiting += reversed(one)
    return list(found)


def set_items(target: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
    """Sets entries of a dictionary. PickleError where it would take for ever."""
    for key, value in pairs:
        if isinstance(key, (int, float)) and len(target) > MOST_NUMBERED:
            raise PickleError(f"it has a dictionary of more than {MOST_NUMBERED} numbers")
        target[_plain_key(key)] = value


def _plain_key(key: Any) -> Any:
    """A key of a dictionary; one whose hash would have to be worked out piece by piece is skipped."""
    plain = key is None or isinstance(key, (str, bytes, int, float, Name, Skipped))
    return key if plain else Skipped(f"a key of the type {type(key).__name__}")


def _below(count: int) -> Callable[[InertReader, Any], None]:
    """The tuple of the last `count` values."""

    def step(reader: InertReader, _: Any) -> None:
        values = tuple(reader.stack[-count:])
        del reader.stack[-count:]
        reader.push(values)

    return step


def _build(reader: InertReader, _: Any) -> None:
    reader.stack.pop()  # the state; nothing here takes one


def _call(reader: InertReader, _: Any) -> None:
    arguments, made_by = reader.stack.pop(), reader.stack.pop()
    reader.call(made_by, arguments)


def _call_with_names(reader: InertReader, _: Any) -> None:
    reader.stack.pop()
    _call(reader, None)


def _object(reader: InertReader, _: Any) -> None:
    made_by, *arguments = reader.marked()
    reader.call(made_by, tuple(arguments))


def _instance(reader: InertReader, argument: str) -> None:
    arguments = reader.marked()
    reader.name(*argument.split(" ", 1))
    reader.call(reader.stack.pop(), tuple(arguments))


def _stack_name(reader: InertReader, _: Any) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.name(module, name)


def _append(reader: InertReader, _: Any) -> None:
    value = reader.stack.pop()
    reader.extend([value])


def _set_item(reader: InertReader, _: Any) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.fill([key, value])


def _new_dictionary(reader: InertReader, _: Any) -> None:
    pairs = reader.marked()
    reader.push({})
    reader.fill(pairs)


def _keep(reader: InertReader, argument: Any) -> None:
    reader.memo[len(reader.memo) if argument is None else int(argument)] = reader.stack[-1]


_Step = Callable[[InertReader, Any], object]
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda reader, argument: None),
    **dict.fromkeys(
        (
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
            *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
            *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        ),
        InertReader.push,
    ),
    "NONE": lambda reader, _: reader.push(None),
    "NEWTRUE": lambda reader, _: reader.push(True),
    "NEWFALSE": lambda reader, _: reader.push(False),
    "MARK": lambda reader, _: reader.push(_Mark),
    "POP": lambda reader, _: reader.stack.pop(),
    "POP_MARK": lambda reader, _: reader.marked(),
    "DUP": lambda reader, _: reader.push(reader.stack[-1]),
    "EMPTY_LIST": lambda reader, _: reader.push([]),
    "LIST": lambda reader, _: reader.push(reader.marked()),
    "APPEND": _append,
    "APPENDS": lambda reader, _: reader.extend(reader.marked()),
    "EMPTY_TUPLE": lambda reader, _: reader.push(()),
    "TUPLE": lambda reader, _: reader.push(tuple(reader.marked())),
    "TUPLE1": _below(1),
    "TUPLE2": _below(2),
    "TUPLE3": _below(3),
    "EMPTY_DICT": lambda reader, _: reader.push({}),
    "DICT": _new_dictionary,
    "SETITEM": _set_item,
    "SETITEMS": lambda reader, _: reader.fill(reader.marked()),
    # A set has no place in weights: it is read as a list.
    "EMPTY_SET": lambda reader, _: reader.push([]),
    "FROZENSET": lambda reader, _: reader.push(reader.marked()),
    "ADDITEMS": lambda reader, _: reader.extend(reader.marked()),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda reader, at: reader.push(reader.memo[int(at)])),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _keep),
    "GLOBAL": lambda reader, argument: reader.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": _stack_name,
    "INST": _instance,
    "OBJ": _object,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "NEWOBJ_EX": _call_with_names,
    "BUILD": _build,
    "PERSID": lambda reader, argument: reader.push(reader.persistent(argument)),
    "BINPERSID": lambda reader, _: reader.push(reader.persistent(reader.stack.pop())),
}
