"""Parts of the pair probe `shift`: cached model, comparison token by token, alignment of kernels, crossed lens."""
