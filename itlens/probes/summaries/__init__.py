"""Parts of the activation probe: what is kept of one prompt (attention mass, sparsity, norms, named hook points)."""
