"""Does a release work and, if not, what is to be done? One file for one kind of check."""
