"""Bytes to disk; never sees an object."""
