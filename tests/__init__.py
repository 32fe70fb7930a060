"""A regular package, because verl's wheel installs one of the same name that would win."""
