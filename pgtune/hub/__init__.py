"""Runs on the Hugging Face Hub: what is pushed (`contents`, `published`), the card (`cards`), what must not leave
(`privacy`), how it is sent (`pushing`, `patience`), and how it comes back (`fetching`)."""
