"""The chain: simulate, dataset, train, infer, check; beside it, studies; below it, what they share."""
