"""From an artifact's tensors to what a host keeps of them: one packer for every method."""
