"""Runs that are asked for and told: points go out as a file, results come back as one, whoever makes them."""
