"""Read models: how projections stand, their rows, and a row beside the replay of its aggregate."""

from dashboard import component

component.read_models()
