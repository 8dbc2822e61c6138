"""Generated from proto/passerby/v1 by `make proto`; not edited by hand."""
