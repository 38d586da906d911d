"""The pieces of the terminal agent that are not about agents: the keyboard and the screen."""
