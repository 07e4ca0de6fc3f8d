"""One process, one namespace: running cells."""
