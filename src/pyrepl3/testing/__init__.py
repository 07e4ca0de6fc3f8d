"""Shipped for users: fakes, faults, and conformance checks for every port."""
