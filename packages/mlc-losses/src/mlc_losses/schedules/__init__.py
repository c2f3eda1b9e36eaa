"""Schedules of the weights of combined losses."""
