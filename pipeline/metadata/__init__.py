"""Generation metadata in an image file: prompt, parameters, models and LoRAs."""
