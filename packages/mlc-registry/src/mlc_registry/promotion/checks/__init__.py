"""What a policy of stages can ask of a version."""
