"""Facts that a sentence or a keyword prompt states, in any words: found, asked, exchanged for others."""
