"""Training: subsets and batches, the training loop, checkpoints, fine-tuning."""
