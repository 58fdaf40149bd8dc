"""Alignment: from a model that continues texts to one that answers as people like it (Ouyang et al. 2022)."""
