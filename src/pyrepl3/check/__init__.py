"""Types of a cell that has not run: a maintained type checker behind the TypeChecker port."""
