"""The way of a confined worker to the hosts that its policy lists: the host connects, and carries bytes."""
