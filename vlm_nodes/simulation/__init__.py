"""Seeded MuJoCo worlds that publish what the Isaac Sim bridge publishes, with ground truth."""
