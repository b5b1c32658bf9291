"""Pictures drawn on demand with their text: what the tiny base is pre-trained on."""
