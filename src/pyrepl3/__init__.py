"""Python sessions that never lose their state: the public names, each loaded when first used."""
