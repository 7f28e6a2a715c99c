"""How fast an organisation makes verified progress, and whether it fools itself."""
