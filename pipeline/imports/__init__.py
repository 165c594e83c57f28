"""Import of finished datasets and of the authors' LLM vectors."""
