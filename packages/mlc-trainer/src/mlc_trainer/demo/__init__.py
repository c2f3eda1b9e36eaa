"""The whole chain on a real brain template: train, kill, resume, register, evaluate."""
