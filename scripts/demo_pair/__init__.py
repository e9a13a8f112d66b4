"""How the embedded pair was made: facts, wordings and tasks, the training, and its figures. Not part of the package."""
