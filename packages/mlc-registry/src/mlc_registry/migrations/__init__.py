"""Files of one major version made into files of the next."""
