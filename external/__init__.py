"""Other people's tests, run against us: ``python -m external``."""
