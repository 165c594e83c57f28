"""Whether the adapter helps: prompts, judges, metrics, intervals."""
