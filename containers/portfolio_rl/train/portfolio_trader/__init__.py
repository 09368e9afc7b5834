"""Reinforcement learning and dynamic programming for trading under constraints."""
