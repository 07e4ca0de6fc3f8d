"""The first file of a zygote, run by whichever Python a session asks for: finds our package there.

No more of ours than needed is put before an environment that is not ours: our own package always, by its
place, so that both ends speak the same protocol; what it needs (``NEEDED``) from there, or from us where
that fits. This file is read by any Python 3, to say what is wrong with an old one.
"""

import importlib.machinery
import importlib.util
import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, NoReturn

OLDEST = (3, 12)
NEEDED = ("msgspec", "blake3")
"""What a worker imports that is neither ours nor of the standard library."""


def refuse(settings: "dict[str, Any]", text: str) -> "NoReturn":
    """Tell the host why nothing comes of it, and end."""
    os.write(settings["why"], text.encode())
    os._exit(1)


def main() -> None:
    """Become the zygote that the settings, the only argument, ask for."""
    settings = json.loads(sys.argv[1])
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        refuse(settings, "it is Python " + found + ", and 3.12 or later is needed")
    if settings["path"] is not None:  # the host's own interpreter and environment
        sys.path[:] = settings["path"]
    else:
        for name in NEEDED:
            if importlib.util.find_spec(name) is not None:
                continue
            place = settings["places"].get(name)
            if place is None or sys.implementation.cache_tag != settings["tag"]:
                refuse(
                    settings,
                    "its environment lacks " + name + ", which a worker needs: "
                    "run " + sys.executable + " -m pip install " + " ".join(NEEDED),
                )
            add(name, place)
        add("pyrepl3", settings["places"]["pyrepl3"])
    from pyrepl3.isolate.zygote import main  # noqa: PLC0415  after it can be found

    main(settings)


def add(name: str, place: str) -> None:
    """Import a package from its folder, without letting in what lies beside it."""
    found = importlib.util.spec_from_file_location(
        name, place + "/__init__.py", submodule_search_locations=[place]
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)


if __name__ == "__main__":
    main()
