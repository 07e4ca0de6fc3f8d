"""What the picklers of one delta share, and what reducers see of the pickler that asks them.

The session's own objects (the namespace, its module, the builtins, the loader) are *seeds*: they stand in
the memo of every pickler from the start, and a prologue puts them into that of the unpickler. So a
reference to the live namespace costs two bytes and no call, wherever it is found.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pyrepl3.records import CHUNK
from pyrepl3.snapshot import rebuild
from pyrepl3.snapshot.definitions import Definitions
from pyrepl3.snapshot.identity import Kinds

MAGIC = b"P3\x02"  # the last byte is the version of the format
MODULES, DEFINITIONS, VALUES = b"m", b"d", b"v"  # the order in which a restore loads them
SEEDS = 4
PROLOGUE = b"\x80\x05" + b"".join(b"K%cQ\x940" % n for n in range(SEEDS)) + b"N."
HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a type made at run time

type Handler = Callable[["Pickling", Any], Any]


class _Seed:
    """A place in every blob's memo for an object that the loader puts there."""


BUILDER, NO_MODULE = _Seed(), _Seed()


def one_of_its_kind(text: Any) -> Any:
    """A string, the same object wherever it is equal, so that a restore brings the same bytes out again.

    For names in code only: to a pickle, equal strings that are not the same object are two.
    """
    return sys.intern(text) if type(text) is str else text


class Commons:
    """What all picklers of one delta share; ``definitions`` says which names hold definitions."""

    __slots__ = ("builtins", "definitions", "handlers", "kinds", "module", "name", "namespace")

    def __init__(self, namespace: dict[str, object], name: str, definitions: Definitions) -> None:
        self.namespace, self.name, self.definitions = namespace, name, definitions
        self.module: object = sys.modules.get(name)
        if getattr(self.module, "__dict__", None) is not namespace:
            self.module = NO_MODULE
        self.builtins: object = vars(sys.modules["builtins"])
        # By type, for one delta only, so that no class of the user is kept alive by us
        self.handlers: dict[type, Handler | None] = {}
        self.kinds = Kinds()

    @property
    def seeds(self) -> tuple[object, ...]:
        return self.namespace, self.module, self.builtins, BUILDER


class Target(Protocol):
    """Where a pickle goes."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes of it."""


class Aside:
    """The memory that a pickle leaves out, in its order (pickle 5, out of band)."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[memoryview] = []

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """What a pickler calls; whether these bytes go into the pickle all the same."""
        view = buffer.raw()
        if len(view) < CHUNK:
            return True
        self.found.append(view)
        return False


class Pickling(pickle.Pickler):
    """A pickler of one blob, as reducers see it.

    ``roots`` maps the ids of the definitions that the blob holds to their names.
    """

    def __init__(
        self,
        file: Target,
        commons: Commons,
        roots: Mapping[int, str],
        shared_buffers: frozenset[int] = frozenset(),
        aside: Aside | None = None,
    ) -> None:
        super().__init__(file, 5, buffer_callback=None if aside is None else aside.take)
        self.commons, self.roots, self.shared_buffers = commons, roots, shared_buffers
        self.memo = {id(seed): (n, seed) for n, seed in enumerate(commons.seeds)}
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

    def key(self, obj: object) -> int:
        """A number for an object that this blob makes, so that it is made once."""
        return self._keys.setdefault(id(obj), len(self._keys))

    def refer(self, name: str) -> Any:
        """The reduction of what another blob holds under ``name``."""
        self.refs.add(name)
        return rebuild.by_name, (BUILDER, name)
