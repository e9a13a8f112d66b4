"""Parts of the attribution probe: objectives, the response scored, gradients in both modes, score matrices."""
