"""What a representation knows, layer by layer, without training anything."""
