"""What shapes a representation beside the task's loss: contrastive terms, and staying near backbone or start."""
