"""A trained emulator: ask it, save it, load it, hand it on."""
