"""What architectures have in common: the contract, the tables of names, the cost of a shape."""
