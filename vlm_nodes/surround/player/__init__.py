"""Surround cameras of recorded or simulated drives on topics: what a vehicle's drivers publish."""
