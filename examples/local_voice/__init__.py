"""Ears, mouth and telephone line of ``voice_without_cloud.py``: real parts that run anywhere."""
