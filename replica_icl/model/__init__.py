"""What is asked: attention, prompts, priors and losses, one variant per file, without replicas and without a limit."""
