"""What is compared: each file reads like one of the paper's tables."""
