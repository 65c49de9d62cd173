"""Where keys and values live between forward passes."""
