"""Resonate: what the steps of cells came to, kept on durable promises. The only importer of it."""
