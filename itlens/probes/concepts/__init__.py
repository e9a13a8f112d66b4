"""Parts of the concept probe: rows of one layer, their components, noise floor and words; words of a single neuron."""
