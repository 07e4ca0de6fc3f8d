"""What a piece of code does to the global names: a record that a walk over its tree fills."""

from __future__ import annotations


class Call:
    """A call whose effect depends on what a name holds: ``root.path(...)`` with these arguments.

    ``arguments`` has, for each position or keyword, the names whose objects may be handed over.
    """

    __slots__ = ("arguments", "path", "root")

    def __init__(
        self, root: str, path: tuple[str, ...], arguments: list[tuple[int | str, frozenset[str]]]
    ) -> None:
        self.root, self.path, self.arguments = root, path, arguments

    @property
    def names(self) -> set[str]:
        """All names in the arguments."""
        return {name for _, names in self.arguments for name in names}


class Effects:
    """What one piece of code does to the names around it."""

    __slots__ = (
        "augments",
        "binds",
        "calls",
        "changed",
        "code",
        "deletes",
        "imports",
        "is_class",
        "keeps",
        "lazy",
        "mutates",
        "name",
        "now",
        "parameters",
        "plain",
        "reads",
        "results",
        "returns",
        "shares",
        "unsure",
    )

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.reads: set[str] = set()
        self.binds: set[str] = set()
        self.deletes: set[str] = set()
        self.mutates: set[str] = set()
        self.augments: set[str] = set()
        """``x += …``: what others hold of the old value may change."""
        self.plain: dict[str, frozenset[str]] = {}
        """Names bound to what cannot be changed in place, where these names hold the like."""
        self.calls: list[Call] = []
        self.unsure: set[str] = set()
        self.imports: dict[str, str] = {}
        """Names of modules, and of what is from one, with the module's and its own name."""
        self.code: list[Effects] = []
        """Functions made here; each runs when it is called."""
        self.now: list[Effects] = []
        """Those of ``code`` that may run here and now."""
        self.is_class = False
        self.keeps = False
        """It may put a part of an argument where it outlives the call."""
        self.lazy = False
        """Calling it gives something that is used up by reading it."""
        self.parameters: tuple[str, ...] = ()
        self.changed: set[str] = set()
        """Parameters whose objects are changed in place, or handed on to who knows what."""
        self.returns: set[str] = set()
        """Globals whose objects it may return."""
        self.shares: list[tuple[frozenset[str], frozenset[str], frozenset[str], bool]] = []
        """(names bound, names whose objects they may hold, names called for it, used up by reading)."""
        self.results: set[str] = set()
