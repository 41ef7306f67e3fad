"""Figures over pictures and answers: distances, rates and their intervals."""
