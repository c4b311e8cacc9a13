"""Stage 2: simulations become a training set."""
