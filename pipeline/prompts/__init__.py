"""Web prompts: grammar, keywords with weights, language, and the checks on whether a prompt is usable."""
