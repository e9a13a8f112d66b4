"""Parts of the pair probe `patching`: donor and cache, single runs, metrics, estimate, curve, result."""
