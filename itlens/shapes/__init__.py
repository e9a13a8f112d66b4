"""Models of well-known shapes with random values: what benchmarks measure, from nothing and without a download."""
