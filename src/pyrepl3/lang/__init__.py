"""Source to code. Pure: no event loop, no threads, no files."""
