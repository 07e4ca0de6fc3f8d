"""Where backends are named: puts runner, store and session together. The composition root."""
