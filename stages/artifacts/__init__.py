"""What lies between the stages, on disk."""
