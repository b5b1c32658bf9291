"""Runs on the Hugging Face Hub: what is pushed (`contents`, of `files`, `weights`, `published` and `arguments`), the
card (`cards`, `card_metadata`), what must not leave (`privacy`, `credentialed`), how it is sent (`pushing`, `sending`,
`asking`, `patience`), and how it comes back (`fetching`, `foreign`)."""
