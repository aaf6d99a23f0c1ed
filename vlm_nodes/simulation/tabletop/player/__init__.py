"""Plays episodes of `sim_table_node` with what a planner answers."""
