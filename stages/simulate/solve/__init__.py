"""Differential equations solved, many side by side."""
