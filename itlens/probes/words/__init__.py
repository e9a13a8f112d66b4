"""Parts of the word-pair probe, and what it shares with concepts: vectors of words, the search, the tables."""
