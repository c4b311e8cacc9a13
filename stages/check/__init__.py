"""Stage 5: the true simulator gives its verdict on the posterior."""
