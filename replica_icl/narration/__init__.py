"""The theory told once: the machinery that prints, typesets and checks the chapters in derivations/."""
