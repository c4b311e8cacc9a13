"""Rows one by one, each in a supervised process: a crash, a hang or garbage there costs that row and nothing else."""
