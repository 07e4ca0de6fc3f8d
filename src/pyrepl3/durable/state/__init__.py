"""The state machine of a Resonate server: a request and the time in; an answer, changes and messages out.

Pure: it reads no clock, no file and no socket. ``machine.Machine`` is the door; ``records`` are its
vocabulary, ``requests`` what it understands, ``ledger`` what it holds. Written after the published
Postgres server (resonatehq/resonate-pg, ``resonate.sql``), with these differences: searching works,
every promise times out by itself, and what is due is done before a request is looked at.
"""
