"""Plugins for tests, as strangers would write them; hosts find them with this folder on their path."""
