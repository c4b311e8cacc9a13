"""Stage 1: parameters become simulations."""
