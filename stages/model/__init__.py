"""What a problem is made of: parameters, outputs, data, noise, likelihood."""
