"""Changes to a cell's tree that keep its meaning: one module a pass, and who runs them."""
