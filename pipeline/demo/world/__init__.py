"""The demo world: scenes, pictures, prompts, planted defects."""
