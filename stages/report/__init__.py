"""What a person looks at: the page of a run, its pictures, and the emulator to play with."""
