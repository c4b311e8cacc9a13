"""Measurements: one script a question, each prints its table."""
