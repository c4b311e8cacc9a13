"""Runs that are finished: files of them, read row by row."""
