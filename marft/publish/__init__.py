"""Publishing trained teams: a folder that anyone can load, its model card, and its way to a hub."""
