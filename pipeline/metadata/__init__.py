"""What a picture file says of its own making: from its bytes to prompt, parameters, models and LoRAs."""
