"""A worker process in, the same process confined out: a module a kind of wall; building them; trying them."""
