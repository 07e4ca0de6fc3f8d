"""Names that share objects in, one blob out, with what it reaches, refers to and may run.

A blob is a header, a prologue that memoizes the session's own objects (the namespace, its module,
the builtins, the loader), and one or two pickles: for blobs that define classes first the bare
classes, so that blobs may refer to each other in circles; then ``{name: value}``. The session's
objects stand in the memo of the pickler from the start, so a reference to the live namespace costs two
bytes and no call.

What a pickler leaves in its memo is also how sharing is found: every object that has an identity
to lose is in there.
"""

from __future__ import annotations

import gc
import io
import pickle
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

from pyrepl3.snapshot import reducers
from pyrepl3.snapshot.classes import finish_call
from pyrepl3.snapshot.definitions import Definitions, is_other_kind
from pyrepl3.snapshot.reasons import Failure, explain_failure

MAGIC = b"P3\x01"  # the last byte is the version of the format
MODULES, DEFINITIONS, VALUES = b"m", b"d", b"v"  # the order in which a restore loads them
SEEDS = 4
PROLOGUE = b"\x80\x05" + b"".join(b"K%cQ\x940" % n for n in range(SEEDS)) + b"N."

type Handler = Callable[["BlobPickler", Any], Any]

# What has no identity worth keeping: equal is as good as same.
ATOM, SHARED, DEFINED = 0, 1, 2
_ATOMS: frozenset[str] = frozenset(
    {
        "builtins.NoneType", "builtins.NotImplementedType", "builtins.bool",
        "builtins.builtin_function_or_method", "builtins.bytes", "builtins.code",
        "builtins.complex", "builtins.ellipsis", "builtins.float", "builtins.frozenset",
        "builtins.int", "builtins.method_descriptor", "builtins.range",
        "builtins.slice", "builtins.str", "builtins.tuple", "builtins.types.GenericAlias",
        "builtins.wrapper_descriptor", "dataclasses._FIELD_BASE", "dataclasses._MISSING_TYPE",
        "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta",
        "datetime.timezone", "decimal.Decimal", "fractions.Fraction", "ipaddress.IPv4Address",
        "logging.Logger", "logging.RootLogger", "pathlib.Path", "pathlib.PosixPath",
        "pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath",
        "pathlib._local.Path", "pathlib._local.PosixPath", "pathlib._local.PurePath",
        "pathlib._local.PurePosixPath", "re.Pattern", "types.GenericAlias", "types.UnionType",
        "typing._GenericAlias", "typing._SpecialForm", "typing._UnionGenericAlias",
        "uuid.UUID", "zoneinfo.ZoneInfo",
    }
)  # fmt: skip
_PLAIN = frozenset({list, dict, set, bytearray})
_BASE_HANDLERS: dict[type, Handler | None] = {}


class Session:
    """What all picklers of one delta share; ``definitions`` says which names hold definitions."""

    __slots__ = ("builtins", "definitions", "handlers", "kinds", "module", "name", "namespace")

    def __init__(self, namespace: dict[str, object], name: str, definitions: Definitions) -> None:
        self.namespace, self.name, self.definitions = namespace, name, definitions
        self.module: object = sys.modules.get(name)
        if getattr(self.module, "__dict__", None) is not namespace:
            self.module = reducers.NO_MODULE
        self.builtins: object = vars(sys.modules["builtins"])
        # By type, for one delta only, so that no class of the user is kept alive by us
        self.handlers: dict[type, Handler | None] = dict(_BASE_HANDLERS)
        self.kinds = Kinds()

    @property
    def seeds(self) -> tuple[object, ...]:
        return self.namespace, self.module, self.builtins, reducers.BUILDER


class Pickled:
    """A blob made, and what was learned on the way.

    ``reach`` holds the ids of the objects whose identity matters; ``refs`` the names it refers to,
    ``links`` the names in its code. ``plain``: it holds builtin containers and atoms only.
    """

    __slots__ = ("data", "links", "names", "plain", "reach", "refs")

    def __init__(self, names: tuple[str, ...], data: bytes) -> None:
        self.names, self.data = names, data
        self.reach: set[int] = set()
        self.refs: frozenset[str] = frozenset()
        self.links: frozenset[str] = frozenset()
        self.plain = False

    @property
    def digest(self) -> tuple[int, int]:
        """Tells this blob from another one; for this process only."""
        return len(self.data), hash(self.data)  # bytes remember their hash


class BlobPickler(pickle.Pickler):
    """Pickles for one blob. ``roots`` maps the ids of the definitions that it holds to their names."""

    def __init__(
        self,
        file: io.BytesIO,
        session: Session,
        roots: Mapping[int, str],
        shared_buffers: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(file, 5)
        self.session, self.roots, self.shared_buffers = session, roots, shared_buffers
        self.memo = {id(seed): (n, seed) for n, seed in enumerate(session.seeds)}
        self.by_value: set[int] = set()
        self.refs: set[str] = set()
        self.links: set[str] = set()
        self.buffers: dict[int, set[int]] = {}  # owner of memory to the arrays that use it
        self.keep: list[object] = []  # what handlers made and ids of which were taken
        self.hollow: set[int] = set()  # cells whose contents their function brings
        self.bare = False  # classes without attributes; they are then listed in ``unfinished``
        self.unfinished: list[type[Any]] = []
        self.names: frozenset[str] = frozenset()
        self.trial_depth = 0
        self.lone = False  # what it writes shares nothing with any name
        self.last: object = None
        self._keys: dict[int, int] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        self.last = obj
        handlers = self.session.handlers
        try:
            handler = handlers[kind]
        except KeyError:
            handler = handlers[kind] = reducers.find_handler(kind, self.session.name)
        return NotImplemented if handler is None else handler(self, obj)

    def key(self, obj: object) -> int:
        """A number for an object that this blob makes, so that it is made once."""
        return self._keys.setdefault(id(obj), len(self._keys))

    def refer(self, name: str) -> Any:
        """The reduction of what another blob holds under ``name``."""
        self.refs.add(name)
        return reducers.by_name(name)


def pickle_names(session: Session, values: Mapping[str, object]) -> Pickled | Failure:
    """One blob of all ``values``, or why there is none. Runs user code; raises nothing."""
    # The memo of a big value is as big again, and every few hundred entries would start a collection.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _pickle_names(session, values)
    finally:
        if collecting:
            gc.enable()


def _pickle_names(session: Session, values: Mapping[str, object]) -> Pickled | Failure:
    shared: frozenset[int] = frozenset()
    tries = 3
    definitions = session.definitions
    roots = {id(v): n for n, v in values.items() if definitions.name_of(v) == n}
    while True:
        file = io.BytesIO()
        pickler = BlobPickler(file, session, roots, shared)
        try:
            _write(pickler, file, values)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; it is told
            tries -= 1
            if tries and type(error) is RuntimeError and "during iteration" in str(error):
                continue  # another thread changed a container meanwhile
            failure = explain_failure(error, pickler.last)
            del error, pickler
            return failure
        again = frozenset(o for o, arrays in pickler.buffers.items() if len(arrays) > 1) - shared
        if not again:
            break
        shared |= again  # once more, with these arrays as views of one memory
    made = Pickled(tuple(values), file.getvalue())
    made.refs, made.links = frozenset(pickler.refs), frozenset(pickler.links)
    made.reach, made.plain = _find_reach(pickler)
    return made


def pickle_atoms(values: Mapping[str, object]) -> bytes:
    """A blob of values without identity (numbers, short strings): nothing can go wrong."""
    return MAGIC + VALUES + PROLOGUE + pickle.dumps(dict(values), 5)


def _write(pickler: BlobPickler, file: io.BytesIO, values: Mapping[str, object]) -> None:
    kind = VALUES
    if pickler.roots:
        kind = DEFINITIONS
    elif all(issubclass(type(value), ModuleType) for value in values.values()):
        kind = MODULES
    file.write(MAGIC + kind + PROLOGUE)
    pickler.names = frozenset(values)
    root: object = dict(values)
    if kind == DEFINITIONS:
        pickler.bare = True
        bare = tuple(
            v for v in values.values() if id(v) in pickler.roots and issubclass(type(v), type)
        )
        pickler.dump(bare)
        pickler.bare = False
        order = sorted(pickler.unfinished, key=lambda cls: len(cls.__mro__))  # bases first
        calls = [finish_call(pickler, cls) for cls in order]
        pickler.keep += (bare, calls, root)
        root = (calls, root)
    pickler.keep.append(root)
    pickler.dump(root)


def _find_reach(pickler: BlobPickler) -> tuple[set[int], bool]:
    """The ids in the memo of objects that live on, and whether all are plain containers."""
    kinds, by_value = pickler.session.kinds, pickler.by_value
    only_builtins = pickler.last is None  # then nothing was made for this pickling but the root
    pickler.last = None
    skip = {id(seed) for seed in pickler.session.seeds}
    skip.update(map(id, pickler.keep))
    pickler.keep.clear()
    memo = pickler.memo.copy()
    pickler.clear_memo()
    objects = [obj for _, obj in memo.values() if kinds[type(obj)]]
    memo.clear()
    if only_builtins:
        reach = set(map(id, objects))
        return reach - skip, _PLAIN.issuperset(map(type, objects))
    while True:  # what nobody else holds was made for this pickling, and so was what only it holds
        live = [obj for obj in objects if sys.getrefcount(obj) > _TEMPORARY]
        if len(live) == len(objects):
            break
        objects = live
    skip -= pickler.buffers.keys()
    reach = {id(obj) for obj in live if kinds[type(obj)] == SHARED}
    reach |= by_value
    reach.update(pickler.buffers)
    plain = not by_value and not pickler.buffers and _PLAIN.issuperset(map(type, live))
    return reach - skip, plain


def _sort(kind: type[Any]) -> int:
    if issubclass(kind, (type, ModuleType)) or kind is FunctionType or is_other_kind(kind):
        return DEFINED
    if f"{kind.__module__}.{kind.__qualname__}" in _ATOMS or issubclass(kind, Enum):
        return ATOM
    if kind.__module__ == "numpy" and kind.__name__ != "ndarray":
        import numpy as np

        if issubclass(kind, (np.generic, np.dtype)):
            return ATOM
    if kind.__module__ == "numpy.dtypes":
        return ATOM
    return SHARED


class Kinds(dict[type, int]):
    """Whether objects of a type have an identity to lose; found out at the first of them."""

    def __missing__(self, kind: type) -> int:
        self[kind] = sort = _sort(kind)
        return sort


def _count_temporary() -> int:
    objects = [object()]  # one that only the list holds
    return [sys.getrefcount(obj) for obj in objects][0]  # noqa: RUF015 - as in _find_reach


_TEMPORARY = _count_temporary()
