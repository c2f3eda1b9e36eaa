"""Semantic versions, the ranges that they lie in, and the references that mean one."""
