"""The wire: generated messages, how they are coded, and the one small protocol that carries them."""
