"""Stage 4: the emulator and the data become a posterior."""
