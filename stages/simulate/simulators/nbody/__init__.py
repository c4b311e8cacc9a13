"""Bodies that attract one another, in units where Newton's constant G is 1."""
