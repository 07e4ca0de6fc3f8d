"""Names of functions and methods of which it is known what they change in place: nothing, or something.

By name alone, as they are in the standard library, NumPy and pandas.
"""

from __future__ import annotations

MUTATORS = frozenset(
    "append extend insert add update remove discard pop popitem popleft appendleft extendleft clear sort "
    "reverse setdefault write writelines send put put_nowait seek truncate set fill resize itemset "
    "rotate subtract move_to_end difference_update intersection_update symmetric_difference_update "
    "__setitem__ __delitem__ __setattr__ seed shuffle setstate chdir putenv".split()
)
"""Methods that change what they are called on, by name."""

PURE_METHODS = frozenset(
    "capitalize casefold center copy count decode encode endswith expandtabs find format format_map get "
    "index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
    "istitle isupper items join keys ljust lower lstrip maketrans partition removeprefix removesuffix "
    "rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title "
    "translate upper values zfill union intersection difference symmetric_difference isdisjoint issubset "
    "issuperset hex bit_length as_integer_ratio conjugate is_integer to_bytes mean sum std min max any all "
    "head tail describe tolist astype reshape groupby isoformat total_seconds most_common".split()
)
"""Methods that change nothing in whatever has them in the standard library, NumPy and pandas."""

PURE_CALLS = frozenset(
    "abs all any ascii bin bool bytes callable chr complex dict divmod enumerate filter float format "
    "frozenset getattr hasattr hash hex id int isinstance issubclass iter len list map max memoryview min "
    "oct ord pow print range repr reversed round set slice sorted str sum tuple type zip bytearray "
    "super property staticmethod classmethod object display".split()
)
"""Builtins that change none of their arguments, but for iterators, which they use up."""

PURE_MODULES = frozenset(
    "math cmath statistics json re copy itertools functools string datetime decimal fractions textwrap "
    "pprint html base64 hashlib zlib time asyncio collections dataclasses typing enum pathlib uuid numpy "
    "pandas".split()
)
"""Modules whose functions change none of their arguments."""

CHANGING_CALLS = frozenset(
    "copyto put place putmask fill_diagonal shuffle heappush heappop heapify heapreplace insort dump".split()
)
"""Functions of modules that change an argument all the same."""

FRESH_CALLS = frozenset(
    "abs all any ascii bin bool bytes callable chr complex divmod float format hash hex id int isinstance "
    "issubclass len oct ord pow print range repr round str sum type".split()
)
PLAIN_CALLS = frozenset(
    "all any ascii bin bool chr float hash hex id int len oct ord repr str".split()
)
"""Builtins that give a number or a text."""

PURE_ROOTS = PURE_MODULES | {"np", "pd"}
OPAQUE = frozenset({"exec", "eval", "globals", "locals", "vars"})
"""Builtins by which code reaches names that it does not name."""

LAZY_CALLS = frozenset({"iter", "map", "filter", "zip", "enumerate", "reversed", "open"})
