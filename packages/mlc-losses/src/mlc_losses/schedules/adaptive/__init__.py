"""Schedules that follow the values of the components."""
