"""LangOcc: surround cameras to open-vocabulary 3D occupancy, learned by volume rendering alone.

The idea is of Boeder, Gigengack and Risse, LangOcc (2024); the code is this package's own.
"""
