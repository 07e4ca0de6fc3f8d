"""What cells do to names: the parts of :mod:`pyrepl3.lang.dataflow`."""
