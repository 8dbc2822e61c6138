"""What makes a training step faster and learns the same."""
