"""Plain sentences: rewriting, fusion, fact checking and paraphrasing."""
