"""Image files: headers, safe decoding, resizing, sharpness."""
