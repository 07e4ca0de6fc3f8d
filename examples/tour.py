# %% Who waits in asyncio? A tour of its own source: the modules of a package, and their coroutines
import ast
import asyncio
import time
from collections import Counter
from pathlib import Path


# %% A class made in a cell, and an instance that later cells fill
class Tally:
    def __init__(self):
        self.awaits = Counter()
        self.coroutines = Counter()

    def add(self, module, tree):
        for node in ast.walk(tree):
            self.awaits[module] += isinstance(node, ast.Await)
            self.coroutines[module] += isinstance(node, ast.AsyncFunctionDef)

    def __repr__(self):
        return (
            f"{self.awaits.total()} awaits in {self.coroutines.total()} coroutines "
            f"of {len(self.awaits)} modules"
        )


tally = Tally()

# %% A blocking call: read the sources from disk
sources = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(Path(asyncio.__file__).parent.glob("*.py"))
}
print(f"read {sum(map(len, sources.values())):,} characters of {len(sources)} modules")


# %% Top-level await: parse them side by side, in threads
async def parse(module, source):
    return module, await asyncio.to_thread(ast.parse, source)


trees = dict(await asyncio.gather(*(parse(*item) for item in sources.items())))
len(trees)

# %% A step that takes a moment: kill the process here, start it again, and it goes on from here
for module, tree in trees.items():
    tally.add(module, tree)
    time.sleep(0.1)
    print(".", end="", flush=True)
print()

# %% State from all the cells above
for module, count in tally.awaits.most_common(3):
    print(f"{module:>12} {count:4} awaits {tally.coroutines[module]:4} coroutines")
tally
