"""An expression and what its names hold in; proof that to evaluate it early, and drop it, shows nowhere.

Proved is what only computes on plain data, waits (``asyncio.sleep``), prints, or calls functions of cells
that do no more than that. Declared is what ``@independent`` stands on. Everything else is refused, with
the reason: nothing is taken to be harmless because it looks so.

For a copy of this process (``apart``) a loop without an end and a call of itself are as good as others: who
computes there can be ended at any time.

The proof names its *inputs*: the values of global names that it looked at. It holds while these are the same
objects. ``mutable``: some of them could be changed in place, so that nothing unknown may run in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrepl3.lang.proof.functions import Functions
from pyrepl3.lang.proof.inputs import Proof

if TYPE_CHECKING:
    import ast
    from collections.abc import Mapping

    from pyrepl3.lang.proof.functions import Seen
    from pyrepl3.lang.proof.inputs import Define, Look


def prove(
    node: ast.expr,
    look: Look,
    define: Define,
    *,
    names: Mapping[str, object],
    seen: Seen | None = None,
    apart: bool = False,
) -> Proof:
    """The proof for an expression at the top of a cell. Raises Refused.

    ``names``: the dict that the cells run on; functions whose globals these are not are foreign. ``seen``:
    what was proved of functions before, for expressions of one cell. ``apart``: it is to be evaluated in a
    copy of this process.
    """
    proof = Proof()
    prover = Functions(proof, look, define, names)
    prover.seen = {} if seen is None else seen
    prover.open, prover.apart = set(), apart
    proof.plain = prover.expression(node)
    return proof
