"""Pictures from prompts, with and without the adapter."""
