"""Stage 3: a training set becomes an emulator."""
